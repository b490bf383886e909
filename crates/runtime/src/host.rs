//! A shard's thread: lease, restore, work, and all over again after an error.

use std::{
    sync::{Arc, Condvar, Mutex, PoisonError},
    time::{Duration, Instant},
};

use suture_log::{Offset, TopicPartition};
use tracing::{debug, error, info, warn};

use crate::{
    Error,
    backoff::Backoff,
    clock::duration,
    error::Failure,
    lease::lease,
    mailbox::{Ending, Mail, Mailbox},
    metrics::{Phase, ShardMetrics},
    pace::Place,
    restore::restore,
    shard::{Env, Shard},
};

/// A shard that holds its lease and wants its records from `offset` on.
#[derive(Debug)]
pub(crate) struct Wanted {
    pub(crate) at: TopicPartition,
    pub(crate) offset: Offset,
    pub(crate) generation: u64,
}

/// What shards tell the thread that polls.
#[derive(Default)]
pub(crate) struct Board {
    inner: Mutex<Notes>,
    changed: Condvar,
}

#[derive(Default)]
struct Notes {
    wanted: Vec<Wanted>,
    stopped: Vec<(TopicPartition, Error)>,
}

impl Board {
    fn post(&self, note: impl FnOnce(&mut Notes)) {
        note(&mut self.inner.lock().unwrap_or_else(PoisonError::into_inner));
        self.changed.notify_all();
    }

    /// All positions asked for since the last call.
    pub(crate) fn wanted(&self) -> Vec<Wanted> {
        std::mem::take(&mut self.inner.lock().unwrap_or_else(PoisonError::into_inner).wanted)
    }

    /// Shards that stopped since the last call.
    pub(crate) fn stopped(&self) -> Vec<(TopicPartition, Error)> {
        std::mem::take(&mut self.inner.lock().unwrap_or_else(PoisonError::into_inner).stopped)
    }

    /// Waits until all these shards have asked for a position or stopped, or `over` says that waiting is of no more use;
    /// gives the positions.
    pub(crate) fn wait_for(
        &self,
        partitions: &[TopicPartition],
        timeout: Duration,
        over: impl Fn() -> bool,
    ) -> Vec<Wanted> {
        let deadline = Instant::now() + timeout;
        let mut inner = self.inner.lock().unwrap_or_else(PoisonError::into_inner);
        loop {
            let known = |at: &TopicPartition| {
                inner.wanted.iter().any(|wanted| wanted.at == *at) || inner.stopped.iter().any(|(s, _)| s == at)
            };
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() || over() || partitions.iter().all(known) {
                let (mine, others) = std::mem::take(&mut inner.wanted)
                    .into_iter()
                    .partition(|wanted| partitions.contains(&wanted.at));
                inner.wanted = others;
                return mine;
            }
            inner = self
                .changed
                .wait_timeout(inner, left.min(LOOK_UP))
                .unwrap_or_else(PoisonError::into_inner)
                .0;
        }
    }
}

/// How late a wait for shards sees that it is to end.
const LOOK_UP: Duration = Duration::from_millis(50);

/// What shards of a plane were told to start anew by, so that what befalls all of them is one line in the log.
#[derive(Debug, Default)]
pub(crate) struct Alike(Mutex<Vec<Told>>);

#[derive(Debug)]
struct Told {
    kind: String,
    at: Duration,
    others: u64,
}

/// For so long after a line on an error another one like it is counted alone.
const ALIKE: Duration = Duration::from_secs(10);
/// Errors that are told apart.
const KINDS: usize = 32;

impl Alike {
    /// Whether an error is to be told, and how many like it were not; `now` is the time by a clock that never goes back.
    pub(crate) fn due(&self, error: &str, now: Duration) -> Option<u64> {
        // partitions differ in their numbers alone
        let kind: String = error.chars().filter(|c| !c.is_ascii_digit()).collect();
        let mut all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(told) = all.iter_mut().find(|told| told.kind == kind) {
            if now.saturating_sub(told.at) < ALIKE {
                told.others += 1;
                return None;
            }
            told.at = now;
            return Some(std::mem::take(&mut told.others));
        }
        if all.len() >= KINDS {
            all.remove(0);
        }
        all.push(Told {
            kind,
            at: now,
            others: 0,
        });
        Some(0)
    }
}

/// Runs a shard until it is told to end.
pub(crate) fn run(
    env: &Arc<Env>,
    at: &TopicPartition,
    metrics: &Arc<ShardMetrics>,
    place: Option<&Arc<Place>>,
    mailbox: &Mailbox,
    board: &Board,
) {
    let mut backoff = Backoff::new(env.options.backoff, duration(env.options.backoff_max));
    loop {
        let failure = match attempt(env, at, metrics, place, mailbox, board, &mut backoff) {
            Ok(()) => return,
            Err(failure) => failure,
        };
        let wait = match &failure {
            Failure::Stop(_) => None,
            // without a group the transactional id is the lease, and somebody else has taken it
            Failure::Fenced(_) if env.options.assign.is_some() => None,
            Failure::Fenced(_) => Some(backoff.wait().max(duration(env.options.fenced_wait))),
            Failure::Restart(_) => Some(backoff.wait()),
        };
        mailbox.reset();
        let Some(wait) = wait else {
            let error = failure.error().clone();
            error!(shard = %at, %error, "the shard stops");
            metrics.set_phase(Phase::Stopped);
            board.post(|notes| notes.stopped.push((at.clone(), error)));
            while mailbox.wait_for_ending(Duration::from_secs(3600)).is_none() {}
            return;
        };
        let error = failure.error().to_string();
        match env.alike.due(&error, env.clock.now()) {
            Some(0) => warn!(shard = %at, error, wait_ms = wait.as_millis(), "the shard starts anew"),
            Some(others) => {
                warn!(shard = %at, error, wait_ms = wait.as_millis(), others, "the shard starts anew, as others did before");
            }
            // as where topics have just been made, and no partition has its leader yet
            None => debug!(shard = %at, error, wait_ms = wait.as_millis(), "the shard starts anew, as another does"),
        }
        metrics.restarts.add(1);
        metrics.set_phase(Phase::Waiting);
        if mailbox.wait_for_ending(wait).is_some() {
            return;
        }
    }
}

/// One life of a shard. `Ok` once it was told to end.
fn attempt(
    env: &Arc<Env>,
    at: &TopicPartition,
    metrics: &Arc<ShardMetrics>,
    place: Option<&Arc<Place>>,
    mailbox: &Mailbox,
    board: &Board,
    backoff: &mut Backoff,
) -> Result<(), Failure> {
    metrics.set_phase(Phase::Opening);
    let generation = mailbox.reset();
    let lease = lease(env, at)?;
    let offset = lease.start;
    board.post(|notes| {
        notes.wanted.push(Wanted {
            at: at.clone(),
            offset,
            generation,
        })
    });
    let mut shard = restore(env, at, metrics, lease, place)?;
    loop {
        let mail = if shard.is_held() {
            shard.wait_for_others(LOOK_UP);
            mailbox
                .wait_for_ending(Duration::ZERO)
                .map_or(Mail::Nothing, Mail::Ending)
        } else {
            mailbox.take(shard.patience())
        };
        match mail {
            Mail::Batch(batch) => {
                if let Some(done) = shard.take(batch) {
                    mailbox.done(done);
                }
                // it has worked: the next error is a new one
                backoff.reset();
            }
            Mail::Nothing => {
                if let Some(done) = shard.go_on() {
                    mailbox.done(done);
                }
            }
            Mail::Ending(Ending::Lost) => {
                info!(shard = %at, "lost to another process");
                return Ok(());
            }
            Mail::Ending(Ending::Release) => {
                end(&mut shard);
                return Ok(());
            }
        }
        shard.advance(mailbox.is_empty() && !shard.is_held())?;
    }
}

/// What cannot be committed any more is not lost: the next owner does it again.
fn end(shard: &mut Shard) {
    let deadline = shard.env.clock.now() + duration(shard.env.options.release_within) / 2;
    match shard.release(deadline) {
        Ok(()) => info!(shard = %shard.at, offset = shard.committed, "released"),
        Err(failure) => {
            warn!(shard = %shard.at, error = %failure.error(), "released without its last commit, which its next owner repeats");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_befalls_all_shards_at_once_is_told_once() {
        let alike = Alike::default();
        let second = Duration::from_secs;
        assert_eq!(alike.due("not the leader of partition facts/0", second(5)), Some(0));
        for partition in 1..12 {
            let error = format!("not the leader of partition facts/{partition}");
            assert_eq!(alike.due(&error, second(6)), None);
        }
        assert_eq!(alike.due("fenced", second(6)), Some(0));
        assert_eq!(alike.due("not the leader of partition facts/3", second(15)), Some(11));
        assert_eq!(alike.due("not the leader of partition facts/3", second(16)), None);
        for kind in 0..100_u8 {
            alike.due(&"x".repeat(usize::from(kind)), second(20));
        }
        assert!(alike.0.lock().is_ok_and(|all| all.len() <= KINDS));
    }
}
