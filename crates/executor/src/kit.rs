//! Requests from the log, outcomes into it.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::Duration,
};

use suture_event::Timestamp;
use suture_log::{Error as LogError, Log, Recovery};
use suture_permit::SecretKey;
use tokio::runtime::Handle;

use crate::{Allowed, Error, Executor, Options, session::Session, watch::Watch};

/// What an executor has done since it was made.
#[derive(Debug, Default)]
pub struct Counters {
    /// Requests acted on.
    pub acted: AtomicU64,
    /// Requests refused.
    pub refused: AtomicU64,
    /// Requests rejected: no permit, one that does not fit, or one that was used.
    pub rejected: AtomicU64,
    /// Requests passed over: advice, waiting for approval, for another executor, or of no interest any more.
    pub left: AtomicU64,
    /// Records that are no request.
    pub malformed: AtomicU64,
    /// How often it began anew after an error of the log.
    pub restarts: AtomicU64,
}

impl Counters {
    pub(crate) fn add(counter: &AtomicU64) {
        counter.fetch_add(1, Ordering::Relaxed);
    }
}

/// Consumes action requests, lets an executor act on them, and writes outcomes.
pub struct Kit<E> {
    pub(crate) log: Arc<dyn Log>,
    pub(crate) executor: Arc<E>,
    pub(crate) options: Options,
    pub(crate) allowed: Allowed,
    pub(crate) runtime: Handle,
    pub(crate) clock: Arc<dyn Fn() -> Timestamp + Send + Sync>,
    pub(crate) counters: Arc<Counters>,
    pub(crate) watch: Arc<Watch>,
    pub(crate) key: Option<SecretKey>,
}

impl<E: Executor> Kit<E> {
    /// An executor over a log. Actions run on `runtime`; `clock` is the wall clock that requests expire by.
    ///
    /// # Errors
    /// [`Error::Options`] with every problem of the options; [`Error::NoKeys`] where it would act and knows no key.
    pub fn new(
        log: Arc<dyn Log>,
        executor: E,
        options: Options,
        runtime: Handle,
        clock: impl Fn() -> Timestamp + Send + Sync + 'static,
    ) -> Result<Self, Error> {
        let allowed = Allowed::new(&options)?;
        if options.keys.is_empty() && !executor.dry() {
            return Err(Error::NoKeys);
        }
        let watch = Watch::new(
            Arc::clone(&log),
            options.commands.clone(),
            options.keys.clone(),
            options.one_scope,
        );
        let counters = Arc::new(Counters::default());
        Ok(Self {
            log,
            executor: Arc::new(executor),
            options,
            allowed,
            runtime,
            clock: Arc::new(clock),
            counters,
            watch: Arc::new(watch),
            key: None,
        })
    }

    /// Signs outcomes with a key, which must be this executor's by name for anybody to believe them.
    #[must_use]
    pub fn signed_with(mut self, key: SecretKey) -> Self {
        self.key = Some(key);
        self
    }

    /// What it has done.
    #[must_use]
    pub fn counters(&self) -> Arc<Counters> {
        Arc::clone(&self.counters)
    }

    /// Works until `stop` is set, on a thread of its own that must not be one of the runtime's: it blocks.
    ///
    /// When stopped, no request is begun any more, and what is under way gets up to eight seconds to end. After an error
    /// of the log that may pass, everything is dropped and begun anew from what is committed.
    ///
    /// # Errors
    /// [`Error::NoTopic`]; [`Error::Log`] where trying again will not help.
    pub fn run(&self, stop: &AtomicBool) -> Result<(), Error> {
        self.wait_for_topics(stop)?;
        while !stop.load(Ordering::Relaxed) {
            let Err(error) = Session::new(self).and_then(|session| session.run(stop)) else {
                return Ok(());
            };
            if error.recovery() == Recovery::Stop || matches!(error, LogError::Crashed { .. }) {
                return Err(error.into());
            }
            tracing::warn!(%error, "executor begins anew");
            Counters::add(&self.counters.restarts);
            std::thread::sleep(Duration::from_millis(100));
        }
        Ok(())
    }

    fn wait_for_topics(&self, stop: &AtomicBool) -> Result<(), Error> {
        for topic in [&self.options.requests, &self.options.outcomes, &self.options.commands] {
            while !stop.load(Ordering::Relaxed) {
                match self.log.topic(topic) {
                    Ok(Some(_)) => break,
                    Ok(None) => return Err(Error::NoTopic(topic.clone())),
                    Err(error) if error.recovery() == Recovery::Retry => {
                        tracing::warn!(%error, "waiting for the log");
                        std::thread::sleep(Duration::from_millis(500));
                    }
                    Err(error) => return Err(error.into()),
                }
            }
        }
        Ok(())
    }
}
