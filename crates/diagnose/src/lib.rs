//! Topology, grouping, change correlation: ranked hypotheses with their evidence.
//!
//! [`Diagnoser`] is a fold over the anomalies, changes and call edges of one scope. It says which anomalies are one
//! incident, when a group of them is worth one, and what most likely caused it.
//!
//! # From anomalies to incidents
//!
//! 1. **Surprise.** An anomaly counts for as many nats as it is unlikely: minus the logarithm of the chance that this
//!    series shows one as large within `group.within` of calm time. How often it does is learned from those that came
//!    to nothing, with a gamma prior that leans on its kind of signal. A series that cries wolf soon counts for little.
//! 2. **Cells.** Signals of one kind about one service say much the same, so they are one cell: the strongest counts in
//!    full, others in part.
//! 3. **Centres.** Each cell supports a fault in its service, and by the call graph in those below it (slowness and
//!    errors travel up) or above it (traffic travels down). The sum around each service is the height of a group there:
//!    a scan over the graph.
//! 4. **Threshold.** How high the highest group reaches in each ten minutes of calm is learned too; its upper tail,
//!    taken to be exponential, gives the height that chance passes no more often than `open.false_incidents` says. This
//!    makes up for whatever the first steps got wrong, and for the size of the system. Around a service that was
//!    changed just before, chance has little room, and less is enough.
//! 5. **Incidents** take in what comes up within reach while they last. A group of its own next to one needs a new
//!    change, or much more height, to be another.
//!
//! # From incidents to causes
//!
//! Every candidate (a change, a fault in a service, a surge, a resource, something outside) collects evidence in nats,
//! for and against; see [`Evidence`](suture_event::Evidence). Softmax over the candidates and "none of these" gives the
//! probabilities.
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

pub use diagnoser::{Diagnoser, Input};
pub use options::{
    BackgroundOptions, ChangeOptions, FalseIncidents, GroupOptions, LimitOptions, OpenOptions, Options, Problem,
    RankOptions, ResolveOptions,
};
