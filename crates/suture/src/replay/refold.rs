//! Deciding anew from facts: what was decided once is decided again.

use std::{path::Path, sync::Arc};

use anyhow::{Context, bail};
use suture_codec::records;
use suture_config::{Clock, Pipeline};
use suture_engine::{Decide, DecideOut};
use suture_event::{Fact, FactBody, Progress, Timestamp};
use suture_service::load::Loaded;

use super::lines::Lines;

/// A pipeline as a replay runs it: by event time, whatever it says, since a replay has no other; and with nothing to put
/// together, since one file is one partition.
pub(crate) fn by_event_time(pipeline: &Pipeline) -> Arc<Pipeline> {
    Arc::new(Pipeline {
        clock: Clock::Event,
        rekey: None,
        ..pipeline.clone()
    })
}

/// Called with each fact that was taken, and with what came of it; without one at the end.
pub(crate) type Take<'t> = &'t mut dyn FnMut(Option<&Fact>, &mut DecideOut) -> anyhow::Result<()>;

/// The fold over the facts of one file or partition.
pub(crate) struct Refold {
    decide: Decide,
    /// Whether the facts are a replay's, at whose end what came last is judged.
    ends: bool,
}

impl Refold {
    /// For facts of a run, by the pipeline's clock.
    pub(crate) fn of_run(loaded: &Loaded) -> Self {
        Self {
            decide: Decide::new(loaded.pipeline.clone(), loaded.edges.clone()),
            ends: false,
        }
    }

    /// For the facts of a file, which are a replay's if their marks know no clock on the wall, and otherwise a run's.
    pub(crate) fn of_file(loaded: &Loaded, path: &Path) -> anyhow::Result<Self> {
        let mut lines = Lines::open(path)?;
        while let Some(line) = lines.next_line()? {
            let fact = decoded(path, line.number, line.text)?;
            if let FactBody::Progress(Progress { wall, .. }) = fact.body {
                if wall != Timestamp::MIN {
                    break;
                }
                return Ok(Self {
                    decide: Decide::new(by_event_time(&loaded.pipeline), loaded.edges.clone()),
                    ends: true,
                });
            }
        }
        Ok(Self::of_run(loaded))
    }

    /// From here on it also says what it makes of groups of anomalies.
    pub(crate) fn explain(&mut self) {
        self.decide.explain();
    }

    /// The fold itself.
    #[cfg(feature = "kafka")]
    pub(crate) const fn decide(&mut self) -> &mut Decide {
        &mut self.decide
    }

    /// Takes every fact of a file.
    pub(crate) fn file(&mut self, path: &Path, take: Take<'_>) -> anyhow::Result<()> {
        let (mut lines, mut out) = (Lines::open(path)?, DecideOut::default());
        while let Some(line) = lines.next_line()? {
            let fact = decoded(path, line.number, line.text)?;
            self.decide.fact(fact.clone(), &mut out)?;
            take(Some(&fact), &mut out)?;
        }
        if lines.lines_read() == 0 {
            bail!("{} has no facts", path.display());
        }
        if self.ends {
            self.decide.end(&mut out);
            take(None, &mut out)?;
        }
        Ok(())
    }
}

fn decoded(path: &Path, line: i64, text: &[u8]) -> anyhow::Result<Fact> {
    records::decode(text).with_context(|| {
        format!(
            "{}, line {line}: this is no fact: see `suture replay --facts`, or the facts topic",
            path.display()
        )
    })
}
