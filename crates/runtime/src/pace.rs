//! Shards that write to one place kept in step, by the time of the records that they read.
//!
//! A record's time is what the log has for it, which tells in which order the records of several partitions once came. No
//! shard takes in a record that is more than a span ahead of what the slowest of the others has *committed*: what one of
//! them has yet to commit, it writes behind whatever the others have written.
//!
//! For each shard there is a bound below which it will commit nothing more, and it never goes back: the time of its next
//! record where that is known, else that of its last one, and, once it has read everything that its partition held when it
//! asked, the time at which it asked. So who has nothing to do holds nobody back, and the slowest, whose next record is the
//! oldest, waits for nobody. A record that is older than one before it goes by the time of that one, and so does one without
//! a time, or with one that only a broken clock can have given it: in the future, or ahead of most of those behind it.
//!
//! What other processes' shards have reached is read from what they committed, where it is a part of the mark: late, but a
//! bound that is too low is still a bound.

use std::{
    collections::BTreeMap,
    sync::{
        Arc, Condvar, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    time::Duration,
};

use suture_event::{Span, Timestamp};
use suture_log::{Batch, Log, Offset, TopicPartition};
use tracing::warn;

use crate::{clock::duration, mark::Mark, metrics::ShardMetrics};

/// So many of the records behind one are asked whether its time may be right.
const AHEAD: usize = 16;

/// How far a shard has come, in the order in which it learns it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Reached {
    /// Nothing is known of what it reads next.
    Unknown,
    /// What it reads has no times: it waits for nobody, and nobody for it.
    Anytime,
    /// It commits nothing more from before this time.
    At(Timestamp),
}

impl Reached {
    pub(crate) fn encode(self) -> String {
        match self {
            Self::Unknown => "?".to_owned(),
            Self::Anytime => "any".to_owned(),
            Self::At(at) => at.as_millis().to_string(),
        }
    }

    pub(crate) fn decode(text: &str) -> Option<Self> {
        match text {
            "?" => Some(Self::Unknown),
            "any" => Some(Self::Anytime),
            millis => millis.parse().ok().map(|at| Self::At(Timestamp::from_millis(at))),
        }
    }
}

/// What the others know of a shard.
#[derive(Debug)]
struct Standing {
    at: TopicPartition,
    reached: Reached,
    committed: Offset,
    /// Somebody waits for just this one.
    awaited: bool,
    /// Nobody waits for it any more, until it gets on.
    left: bool,
}

impl Standing {
    const fn new(at: TopicPartition) -> Self {
        Self {
            at,
            reached: Reached::Unknown,
            committed: Offset::MIN,
            awaited: false,
            left: false,
        }
    }

    /// Takes what is further; gives whether anything was.
    fn advance(&mut self, reached: Reached, committed: Offset) -> bool {
        let further = reached > self.reached || committed > self.committed;
        if further {
            self.reached = self.reached.max(reached);
            self.committed = self.committed.max(committed);
            self.awaited = false;
            self.left = false;
        }
        further
    }
}

#[derive(Default)]
struct Field {
    /// This process' shards, by the number of their place.
    own: BTreeMap<u64, Standing>,
    /// Those of others.
    others: BTreeMap<TopicPartition, Standing>,
    /// Counts what shards waiting for others may want to know.
    changes: u64,
    /// Somebody waits for a shard of another process.
    asked_for: bool,
}

impl Field {
    fn has(&self, at: &TopicPartition) -> bool {
        self.own.values().any(|own| own.at == *at)
    }

    /// Who of all shards but that one is waited for, and has come the least far.
    fn slowest(&self, beside: Option<u64>) -> Option<&Standing> {
        let own = self.own.iter().filter(|(place, _)| Some(**place) != beside);
        let all = own.map(|(_, own)| own).chain(self.others.values());
        all.filter(|other| !other.left && other.reached != Reached::Anytime)
            .min_by_key(|other| other.reached)
    }

    /// What is known of one shard.
    fn those_of(&mut self, at: &TopicPartition) -> impl Iterator<Item = &mut Standing> {
        let all = self.own.values_mut().chain(self.others.values_mut());
        all.filter(move |standing| standing.at == *at)
    }

    /// What a shard of another process is now known to have reached.
    fn hear(&mut self, at: TopicPartition, reached: Reached, committed: Offset) -> bool {
        // a lease that was given away a moment ago is told of by whoever has it now
        if self.has(&at) {
            return false;
        }
        let other = self.others.entry(at.clone()).or_insert_with(|| Standing::new(at));
        other.advance(reached, committed)
    }
}

/// The shards of a plane that are kept in step.
pub(crate) struct Pace {
    span: Span,
    patience: Duration,
    roster: Vec<TopicPartition>,
    field: Mutex<Field>,
    changed: Condvar,
    places: AtomicU64,
}

impl Pace {
    /// One with nobody in it. `roster` is every shard of the plane, here or elsewhere.
    pub(crate) fn new(span: Span, patience: Span, roster: Vec<TopicPartition>) -> Self {
        let others = roster
            .iter()
            .map(|at| (at.clone(), Standing::new(at.clone())))
            .collect();
        let field = Field {
            others,
            ..Field::default()
        };
        Self {
            span,
            patience: duration(patience),
            roster,
            field: Mutex::new(field),
            changed: Condvar::new(),
            places: AtomicU64::new(0),
        }
    }

    fn lock(&self) -> MutexGuard<'_, Field> {
        self.field.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn wake(&self, mut field: MutexGuard<'_, Field>) {
        field.changes += 1;
        drop(field);
        self.changed.notify_all();
    }

    /// A shard comes to this process.
    pub(crate) fn join(self: &Arc<Self>, at: &TopicPartition) -> Arc<Place> {
        let id = self.places.fetch_add(1, Relaxed);
        let mut field = self.lock();
        // what its last owner had reached is a bound for its next one
        let heard = field.others.remove(at);
        let standing = heard.unwrap_or_else(|| Standing::new(at.clone()));
        field.own.insert(id, standing);
        drop(field);
        Arc::new(Place {
            pace: Arc::clone(self),
            id,
        })
    }

    /// How often to hear of the shards of other processes.
    pub(crate) fn hear_every(&self) -> Duration {
        (duration(self.span) / 4).clamp(Duration::from_millis(100), Duration::from_secs(1))
    }

    /// Whether a shard of this process waits for one of another.
    pub(crate) fn is_all_ears(&self) -> bool {
        self.lock().asked_for
    }

    /// Reads what the shards of other processes have committed.
    pub(crate) fn hear(&self, log: &dyn Log, group: &str) -> Result<(), suture_log::Error> {
        let asked: Vec<TopicPartition> = {
            let mut field = self.lock();
            field.asked_for = false;
            self.roster.iter().filter(|at| !field.has(at)).cloned().collect()
        };
        if asked.is_empty() {
            return Ok(());
        }
        let found = log.committed_before(group, &asked)?;
        let mut field = self.lock();
        let mut news = false;
        for (at, committed) in asked.into_iter().zip(found) {
            let (reached, offset) = committed.map_or((Reached::Unknown, Offset::MIN), |committed| {
                // whoever commits without saying how far it has come does not keep in step
                let mark = Mark::decode(&committed.metadata);
                let reached = mark.and_then(|mark| mark.reached).unwrap_or(Reached::Anytime);
                (reached, committed.offset)
            });
            news |= field.hear(at, reached, offset);
        }
        if news {
            self.wake(field);
        }
        Ok(())
    }
}

/// A shard's place among those that are kept in step, for as long as this process has it.
pub(crate) struct Place {
    pace: Arc<Pace>,
    id: u64,
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut field = self.pace.lock();
        if let Some(own) = field.own.remove(&self.id) {
            // until its next owner is heard of, this is what is known
            field.hear(own.at, own.reached, own.committed);
        }
        self.pace.wake(field);
    }
}

impl Place {
    fn reached(&self) -> Reached {
        self.pace
            .lock()
            .own
            .get(&self.id)
            .map_or(Reached::Unknown, |own| own.reached)
    }

    fn reach(&self, reached: Reached, committed: Offset) {
        let mut field = self.pace.lock();
        let slowest = field.slowest(None).map(|slowest| slowest.reached);
        let Some(own) = field.own.get_mut(&self.id) else { return };
        let (before, left) = (own.reached, own.left);
        // nobody waits for any other
        if own.advance(reached, committed) && (left || slowest.is_some_and(|slowest| before <= slowest)) {
            self.pace.wake(field);
        }
    }

    /// What was known is of no use any more: the shard begins anew.
    fn forget(&self) {
        if let Some(own) = self.pace.lock().own.get_mut(&self.id) {
            own.reached = Reached::Unknown;
            own.committed = Offset::MIN;
        }
    }

    /// The last time that may be taken in now, and how many changes there had been then.
    fn limit(&self) -> (Timestamp, u64) {
        let field = self.pace.lock();
        let limit = match field.slowest(Some(self.id)).map(|slowest| slowest.reached) {
            None | Some(Reached::Anytime) => Timestamp::MAX,
            Some(Reached::At(at)) => at.plus(self.pace.span),
            Some(Reached::Unknown) => Timestamp::MIN,
        };
        (limit, field.changes)
    }

    /// Waits for something to have happened after that many changes.
    fn wait(&self, changes: u64, timeout: Duration) {
        let field = self.pace.lock();
        if field.changes == changes {
            drop(self.pace.changed.wait_timeout(field, timeout));
        }
    }

    /// Whether others wait for just this shard to commit what it has taken in.
    fn is_awaited(&self) -> bool {
        self.pace.lock().own.get(&self.id).is_some_and(|own| own.awaited)
    }

    /// Whether other processes have shards, to which to say how far this one has come.
    fn has_others(&self) -> bool {
        self.pace.lock().own.len() < self.pace.roster.len()
    }
}

/// For whom a shard waits: it has to have got on before the patience is over.
#[derive(Debug, PartialEq, Eq)]
struct Waiting {
    at: TopicPartition,
    reached: Reached,
    committed: Offset,
}

/// A shard's own part in keeping in step.
pub(crate) struct InStep {
    place: Arc<Place>,
    /// What has come and is not taken in.
    pub(crate) rest: Batch,
    /// By which time the last record went that was taken in.
    line: Reached,
    /// Once this offset is reached, so is that time.
    goal: Option<(Offset, Timestamp)>,
    /// When the partition's end was last thought of.
    looked: Duration,
    /// What the last commit said.
    said: Reached,
    /// Since when the shard has been waiting for the same, and the changes it has seen.
    waiting: Option<(Waiting, Duration)>,
    changes: u64,
    counted: Option<Duration>,
}

impl InStep {
    /// `resumed` is what was committed, if that is where the shard goes on.
    pub(crate) fn new(place: Arc<Place>, resumed: Option<(Option<Reached>, Offset)>) -> Self {
        let said = match resumed {
            Some((reached, committed)) => {
                let reached = reached.unwrap_or(Reached::Unknown);
                place.reach(reached, committed);
                reached
            }
            None => {
                place.forget();
                Reached::Unknown
            }
        };
        Self {
            place,
            rest: Batch::new(),
            line: Reached::Unknown,
            goal: None,
            looked: Duration::ZERO,
            said,
            waiting: None,
            changes: 0,
            counted: None,
        }
    }

    pub(crate) fn is_held(&self) -> bool {
        !self.rest.is_empty()
    }

    /// Whether others wait for what the shard has taken in to be committed.
    pub(crate) fn is_awaited(&self) -> bool {
        self.place.is_awaited()
    }

    fn span(&self) -> Span {
        self.place.pace.span
    }

    /// By which time a record goes after one that went by `line`.
    fn time_of(&self, line: Reached, (rest, index): (&Batch, usize), wall: Timestamp) -> Reached {
        match (self.likely((rest, index), line, wall), line) {
            (Some(at), _) => line.max(Reached::At(at)),
            (None, Reached::At(_)) => line,
            // before the first that has a time
            (None, Reached::Unknown | Reached::Anytime) => (index + 1..=index + AHEAD)
                .find_map(|next| self.likely((rest, next), line, wall))
                .map_or(Reached::Anytime, Reached::At),
        }
    }

    /// The time of a record, if that may be right: it is not in the future, and where it is further ahead than the span, so
    /// are records behind it.
    fn likely(&self, (rest, index): (&Batch, usize), line: Reached, wall: Timestamp) -> Option<Timestamp> {
        let at = rest.timestamp(index).filter(|at| *at <= wall.plus(self.span()))?;
        let before = at.minus(self.span());
        if line >= Reached::At(before) {
            return Some(at);
        }
        let following = || (index + 1..=index + AHEAD).filter_map(|next| rest.timestamp(next));
        let with_it = following().filter(|next| *next >= before).count();
        (2 * with_it >= following().count()).then_some(at)
    }

    /// How many of the records that have come may be taken in now.
    pub(crate) fn admit(&mut self, rest: &Batch, wall: Timestamp) -> usize {
        let (limit, changes) = self.place.limit();
        self.changes = changes;
        let (mut line, mut count) = (self.line, 0);
        while count < rest.len() {
            let next = self.time_of(line, (rest, count), wall);
            if next > Reached::At(limit) {
                break;
            }
            line = next;
            count += 1;
        }
        self.line = line;
        count
    }

    /// What is reached once everything taken in is committed, up to that offset.
    pub(crate) fn reached_at(&self, looked_to: Offset, wall: Timestamp) -> Reached {
        let next = if self.rest.is_empty() {
            self.line
        } else {
            self.time_of(self.line, (&self.rest, 0), wall)
        };
        let goal = self.goal.filter(|(end, _)| *end <= looked_to);
        let goal = goal.map_or(Reached::Unknown, |(_, at)| Reached::At(at));
        next.max(goal).max(self.place.reached())
    }

    /// Tells the others, where everything taken in is committed, up to that offset.
    pub(crate) fn tell(&self, committed: Offset, looked_to: Offset, wall: Timestamp) {
        self.place.reach(self.reached_at(looked_to, wall), committed);
    }

    /// A commit has told the other processes.
    pub(crate) const fn said(&mut self, reached: Reached) {
        self.said = reached;
    }

    /// Whether the other processes ought to hear of how far the shard has come, which no commit has told.
    pub(crate) fn has_news(&self) -> bool {
        let reached = self.place.reached();
        let worth = match (reached, self.said) {
            (Reached::At(now), Reached::At(before)) => self.is_held() || now.since(before) >= self.quarter(),
            _ => true,
        };
        reached > self.said && worth && self.place.has_others()
    }

    fn quarter(&self) -> Span {
        Span::from_millis(self.span().as_millis() / 4)
    }

    /// How often to think of the partition's end.
    pub(crate) fn look_every(&self) -> Duration {
        (duration(self.span()) / 8).clamp(Duration::from_millis(50), Duration::from_secs(1))
    }

    /// When to think of it next.
    pub(crate) fn look_at(&self) -> Duration {
        self.looked + self.look_every()
    }

    /// Whether the partition's end is to be asked for, now: the shard seems to be behind, and it is not known up to where it
    /// has to get.
    pub(crate) fn looks(&mut self, now: Duration, wall: Timestamp, looked_to: Offset) -> Look {
        if now < self.look_at() && self.looked != Duration::ZERO {
            return Look::No;
        }
        self.looked = now.max(Duration::from_nanos(1));
        let behind = match self.place.reached() {
            Reached::At(at) => wall.since(at) >= self.quarter(),
            Reached::Unknown | Reached::Anytime => true,
        };
        match self.goal {
            _ if !behind => Look::No,
            Some((end, _)) if end > looked_to => Look::Through(end),
            _ => Look::ForEnd,
        }
    }

    /// The partition ended there at that time.
    pub(crate) const fn aim(&mut self, end: Offset, asked: Timestamp) {
        self.goal = Some((end, asked));
    }

    /// The shard has nothing more to wait for.
    pub(crate) fn goes_on(&mut self, now: Duration, metrics: &ShardMetrics) {
        if self.counted.is_some() {
            self.count(now, metrics);
        }
        self.waiting = None;
        self.counted = None;
    }

    fn count(&mut self, now: Duration, metrics: &ShardMetrics) {
        if let Some(before) = self.counted {
            let micros = now.saturating_sub(before).as_micros();
            metrics.held_micros.add(u64::try_from(micros).unwrap_or(u64::MAX));
        }
        self.counted = Some(now);
    }

    /// The shard cannot go on. Where the one that it waits for has not got on for too long, nobody waits for that one any
    /// more.
    pub(crate) fn holds(&mut self, now: Duration, metrics: &ShardMetrics) {
        self.count(now, metrics);
        let pace = &self.place.pace;
        let mut field = pace.lock();
        let Some(slowest) = field.slowest(Some(self.place.id)) else {
            return;
        };
        let waiting = Waiting {
            at: slowest.at.clone(),
            reached: slowest.reached,
            committed: slowest.committed,
        };
        let foreign = !field.has(&waiting.at);
        field.asked_for |= foreign;
        let since = match &self.waiting {
            Some((before, since)) if *before == waiting => *since,
            _ => now,
        };
        let over = now.saturating_sub(since) >= pace.patience;
        if over {
            metrics.went_ahead.add(1);
            let shard = field.own.get(&self.place.id).map(|own| own.at.to_string());
            warn!(
                shard = shard.unwrap_or_default(), behind = %waiting.at, elsewhere = foreign,
                waited_ms = pace.patience.as_millis(),
                "going on without a shard that makes no progress: what it has yet to read comes out of step"
            );
            field.those_of(&waiting.at).for_each(|other| other.left = true);
            pace.wake(field);
        } else {
            field.those_of(&waiting.at).for_each(|other| other.awaited = true);
            drop(field);
        }
        self.waiting = (!over).then_some((waiting, since));
    }

    /// Waits for the others to get on.
    pub(crate) fn wait(&self, timeout: Duration) {
        self.place.wait(self.changes, timeout);
    }
}

/// What a shard has to find out of its partition.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Look {
    /// Nothing.
    No,
    /// Where it ends.
    ForEnd,
    /// Whether anything is left before that offset.
    Through(Offset),
}
