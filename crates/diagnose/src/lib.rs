//! Topology, grouping, change correlation: ranked hypotheses with their evidence.
//!
//! [`Diagnoser`] is a fold over the anomalies, changes and call edges of one scope. It says which anomalies are one
//! incident, when a group of them is worth one, and what most likely caused it.
//!
//! # From anomalies to incidents
//!
//! 1. **Surprise.** An anomaly counts for as many nats as it is unlikely: minus the logarithm of the chance that this
//!    series shows one as large within `group.within` of calm time. How often it does is learned from those that came
//!    to nothing, shrunk towards its kind of signal in this scope, and that towards all signals in it.
//! 2. **Cells.** Signals of one kind about one service that went the same way say much the same, so they are one cell: the
//!    strongest counts in full, others in part.
//! 3. **Accounts.** For each service that the cells lie on or point at, and each sort of fault, the model in `effects` says
//!    how likely every cell is off because of it, by kind and by the calls in between. Against the chance that it is off by
//!    itself that gives nats for the fault; what is as usual though it would show, and a seat that is less sick than those
//!    it is to have made sick, count against it.
//! 4. **The bar** follows from `open.false_incidents`: so many in so long, for as many cells as are watched, if each is off
//!    by chance as often as its nats say. How high chance reached in each ten minutes of calm is learned beside that, and a
//!    scope that is noisier than it should be raises its bar soon. Around a service that was changed of late, chance
//!    has little room, and less is enough, the less the shorter ago that was. One cell alone is enough if it is strong and
//!    still there a window later; what is inside its band again by itself opens nothing.
//! 5. **A change's own doing.** What begins within the grace period of a change of its service is held for two windows more,
//!    and let go if it is back inside its band by then: restarts do such things.
//! 6. **One cause or two.** A group that comes up while an incident is open joins it where the incident's cause would show as
//!    the group, in place, kind and time, nearly as well as what explains the group best; else it is another incident. What
//!    began during an incident that is over, as its cause would show, was only told late and is none. A series that is
//!    outside already and goes a step further is hardly the first cause's doing.
//!
//! # From incidents to causes
//!
//! Every candidate (a fault of a service, each change of it, more or less work coming in) has its account, and a change the
//! odds by its time: deploys are stamped when they are done, so one that is stamped a few minutes after the first signs is a
//! suspect too, and a rollback is not. Softmax over the candidates and "none of these" gives the probabilities. See
//! [`Evidence`](suture_event::Evidence).
//!
//! # Bounds
//!
//! All in [`LimitOptions`], with what happens at each.
//!
//! # What it must not know
//!
//! Clocks, files, detectors, windows, actions. Time is what the inputs say.

mod background;
mod case;
mod cause;
mod cell;
mod diagnoser;
mod effects;
mod judge;
mod options;
mod rank;
mod signal;
mod topology;
mod verdict;

pub use diagnoser::{Diagnoser, Input};
pub use options::{
    BackgroundOptions, ChangeOptions, FalseIncidents, GroupOptions, LimitOptions, OpenOptions, Options, RankOptions,
    ResolveOptions,
};
pub use suture_event::Problem;
pub use verdict::{Verdict, VerdictOutcome};
