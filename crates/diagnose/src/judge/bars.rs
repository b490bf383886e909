//! What a group must show to be worth an incident: by what was asked for, by what calm times reach, by how long ago its service was
//! changed, and by what incidents came before it.

use std::collections::BTreeSet;

use suture_event::{Change, Span, Timestamp};

use crate::{Diagnoser, cause::Account, topology::ServiceId};

/// What comes next to an incident that is just over must show so many nats more, at most.
const AFTERMATH: f64 = 8.0;

/// Incidents of one service in a day after which each further one must show so many nats more than the one before.
const OFTEN: usize = 3;
const AGAIN: f64 = 3.0;

/// Nats that a group must show more at first, and the time after which it is some third of that.
const STRANGE: f64 = 8.0;
const KNOWN: Span = Span::from_hours(3);

/// Spans after a change that are told apart, each twice as long as the one before.
const AGES: usize = 8;

/// What a group must show, in nats.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Bars {
    /// Where the service was changed within this span before what is seen began.
    pub(crate) by_age: Vec<(Span, f64)>,
    /// Where it was not.
    pub(crate) others: f64,
}

impl Diagnoser {
    /// What a group must show to be worth an incident, by how long ago the service that it is about was changed.
    ///
    /// Half of the false incidents that are allowed may come from services that were not changed of late, a quarter from
    /// those just changed, and half as many from each that were changed up to twice as long ago. As services are seldom
    /// just changed, chance has little room there, so less is enough.
    pub(crate) fn bars(&self) -> Bars {
        let wanted = &self.options.open.false_incidents;
        let cells = f64::from(self.topology.count_cells());
        let at = |share: f64, exposed| {
            let most = wanted.at_most * share;
            self.background
                .threshold(most, wanted.per, exposed, cells, self.within())
        };
        let least = self.options.open.least;
        let more = self.infancy();
        let bar = |nats: f64| nats.max(least) + more;
        let rate = self.change_rate();
        let (mut span, mut share, mut by_age) = (self.news_span(), 0.25, Vec::new());
        let longest = self.options.changes.look_back.as_millis() + self.news_span().as_millis();
        while span.as_millis() < longest && by_age.len() < AGES {
            let exposed = (rate * span.as_secs_f64()).clamp(0.005, 1.0);
            by_age.push((span, bar(at(share, exposed))));
            (span, share) = (Span::from_millis(2 * span.as_millis()), 0.5 * share);
        }
        Bars {
            by_age,
            others: bar(at(0.5, 1.0)),
        }
    }

    /// How much more a group must show in the first hours, as what is watched for so short a time may do as a matter of course
    /// what it was not yet seen to do.
    fn infancy(&self) -> f64 {
        STRANGE
            * (-self.background.watched(self.now).as_secs_f64()
                / KNOWN
                    .min(Span::from_millis(180 * self.window().as_millis()))
                    .as_secs_f64())
            .exp()
    }

    /// How long a change is news: until most of what is wrong with it would have shown.
    fn news_span(&self) -> Span {
        let changes = &self.options.changes;
        Span::from_millis(changes.grace.as_millis() + 2 * changes.typical_lag.as_millis())
    }

    /// Changes a second for one service.
    #[allow(clippy::cast_precision_loss)] // small counts
    fn change_rate(&self) -> f64 {
        let day = Span::from_hours(24);
        let since = self.now.minus(day);
        let count = self
            .changes
            .iter()
            .filter(|(_, change)| change.at >= since && change.at <= self.now)
            .count();
        let watched = self
            .background
            .watched(self.now)
            .min(day)
            .as_secs_f64()
            .max(self.news_span().as_secs_f64());
        let services = self.topology.count_watched().max(1);
        count as f64 / (watched * services as f64)
    }

    /// The latest change of a service that is news: not one that an incident nearby has had to account for already.
    pub(super) fn news_of(&self, service: ServiceId) -> Option<&Change> {
        self.change_within(service, self.now, self.news_span())
    }

    /// The latest change of a service in the span before a time that no incident nearby has had to account for already.
    pub(super) fn change_within(&self, service: ServiceId, until: Timestamp, span: Span) -> Option<&Change> {
        let since = until.minus(span);
        let mut of_service = self
            .changes
            .iter()
            .rev()
            .filter(|(id, _)| *id == service)
            .map(|(_, change)| change);
        let change = of_service.find(|change| change.at <= until && change.at >= since)?;
        let near = self.topology.around(service, self.options.group.reach);
        let open = self.cases.iter().map(|case| (case.centre, case.opened_at));
        let over = self.past.iter().map(|past| (past.centre, past.opened_at));
        let accounted = open
            .chain(over)
            .any(|(centre, opened_at)| opened_at >= change.at && near.contains(&centre));
        (!accounted).then_some(change)
    }

    /// What a group must show whose seat was changed so long before what is seen began.
    pub(super) fn bar_of(&self, account: &Account, bars: &Bars) -> f64 {
        let until = account.onset.plus(self.window());
        let changed = |span: Span| self.change_within(account.seat, until.min(self.now), span).is_some();
        bars.by_age
            .iter()
            .filter(|(span, _)| changed(*span))
            .map(|(_, bar)| *bar)
            .fold(bars.others, f64::min)
    }

    /// Whether the seat was changed just before what is seen began.
    pub(super) fn is_fresh(&self, account: &Account) -> bool {
        self.news_of(account.seat)
            .is_some_and(|change| change.at <= account.onset.plus(self.window()))
    }

    /// What the last change of the seat adds to its odds.
    pub(super) fn prior_of(&self, account: &Account) -> f64 {
        let (none, spent) = ([], BTreeSet::new());
        let scene = self.scene(self.view(&none), &[], &[], &spent);
        let changes = self.changes.iter().filter(|(service, _)| *service == account.seat);
        changes
            .map(|(_, change)| scene.prior_of(change, account.onset))
            .fold(0.0, f64::max)
    }

    /// Trouble draws trouble: what comes next to an incident that is just over is most likely its aftermath, unless it is
    /// stronger.
    pub(super) fn aftermath(&self, account: &Account) -> f64 {
        let aftershock = self.options.group.aftershock;
        let just_over = self
            .past
            .iter()
            .filter(|past| self.now.since(past.resolved_at) <= aftershock && !self.is_fresh(account));
        just_over
            .filter(|past| {
                self.topology
                    .around(past.centre, self.options.group.reach)
                    .contains(&account.seat)
            })
            .map(|past| past.height)
            .fold(0.0, f64::max)
            .min(AFTERMATH)
            + self.flapping(account)
    }

    /// What is off again and again is its service's way, however many kinds of signal say so.
    fn flapping(&self, account: &Account) -> f64 {
        let day = self.now.minus(Span::from_hours(24));
        let recent = self
            .past
            .iter()
            .filter(|past| past.centre == account.seat && past.opened_at >= day);
        // with a change each it is its changes that are bad
        let count = recent
            .filter(|past| past.blamed.is_none())
            .count()
            .saturating_sub(OFTEN);
        #[allow(clippy::cast_precision_loss)] // bounded by the limit on resolved incidents
        let count = count as f64;
        AGAIN * count
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use suture_event::{ChangeKind, SignalKind};

    use super::*;
    use crate::{Input, Options};

    #[test]
    fn the_shorter_ago_a_service_was_changed_the_less_is_enough() {
        let mut diagnoser = Diagnoser::new(Options::default(), "prod".into());
        let minute = |minute: i64| Timestamp::from_millis(minute * 60_000);
        for service in 0..40 {
            let service: Arc<str> = format!("s{service}").into();
            for kind in [SignalKind::Errors, SignalKind::Latency] {
                let service = Some(Arc::clone(&service));
                diagnoser.step(Input::Watched(&suture_event::Watched { service, kind }));
            }
        }
        diagnoser.step(Input::Time(minute(1)));
        diagnoser.step(Input::Change(&Change {
            id: "deploy".into(),
            at: minute(600),
            kind: ChangeKind::Deploy,
            service: "s1".into(),
            environment: None,
            artifact: None,
            source: "/ci".into(),
            event_type: "".into(),
        }));
        diagnoser.step(Input::Time(minute(2_880)));
        let bars = diagnoser.bars();
        let ages: Vec<f64> = bars.by_age.iter().map(|(_, bar)| *bar).collect();
        assert!(ages.len() > 2 && ages.is_sorted(), "{bars:?}");
        assert!(ages.last().is_some_and(|last| *last <= bars.others), "{bars:?}");
        assert!(ages[0] + 1.0 < bars.others, "{bars:?}");
    }
}
