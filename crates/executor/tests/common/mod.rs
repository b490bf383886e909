//! A log with requests in it, an executor that remembers what it was asked, and a reader of outcomes.

use std::{
    collections::BTreeMap,
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    thread::JoinHandle,
    time::{Duration, Instant},
};

use suture_codec::{cdevents, records};
use suture_event::{ActionRequest, ActionStep, FreezeEpoch, Outcome, OutcomeStatus, Permit, Rung, Span, Timestamp};
use suture_executor::{Budget, Calls, Error, ExecuteError, Executor, Kit, Options};
use suture_log::{Isolation, Log, OutRecord, TopicPartition, TopicSpec, memory::MemoryLog};
use suture_permit::{KeyEntry, Keyring, Role, SecretKey};
use tokio::runtime::Runtime;

pub(crate) const NOW: Timestamp = Timestamp::from_millis(1_661_140_440_000);

pub(crate) fn request(id: &str, target: &str) -> ActionRequest {
    ActionRequest {
        id: id.into(),
        at: NOW,
        expires_at: NOW.plus(Span::from_mins(2)),
        incident: "incident".into(),
        scope: "prod".into(),
        target: target.into(),
        step: ActionStep {
            action: "rollback".into(),
            parameters: BTreeMap::from([("change".to_owned(), "deploy-7".to_owned())]),
        },
        reversal: None,
        reverses: None,
        rung: Rung::Autonomous,
        approved_by: None,
        approvals: Vec::new(),
        outside: Default::default(),
        weighed: None,
        permit: None,
        playbook: "rollback".into(),
        owner: "shop".into(),
        class: "bad_deploy".into(),
        change: Some("deploy-7".into()),
        probability: 0.83,
        attempt: 1,
        verify_by: NOW.plus(Span::from_mins(10)),
        reason: "83% bad_deploy in cart".to_owned(),
    }
}

/// The keys of the tests, each made of a number.
pub(crate) fn decide_key() -> SecretKey {
    SecretKey::from_seed(&[1; 32], "decide", Role::Decide)
}

pub(crate) fn robot_key() -> SecretKey {
    SecretKey::from_seed(&[2; 32], "robot", Role::Executor)
}

pub(crate) fn ann_key() -> SecretKey {
    SecretKey::from_seed(&[3; 32], "ann", Role::Person)
}

pub(crate) fn keys() -> Keyring {
    let entry = |key: &SecretKey| KeyEntry {
        who: Arc::clone(&key.who),
        role: key.role,
        public: key.public(),
        until: None,
    };
    Keyring::new([decide_key(), robot_key(), ann_key()].iter().map(entry).collect())
}

/// Gives a request a permit for an executor, as decide does.
pub(crate) fn permitted(mut request: ActionRequest, executor: &str, epoch: FreezeEpoch) -> ActionRequest {
    request.permit = Some(Permit {
        executor: executor.into(),
        epoch,
        seal: None,
    });
    let seal = decide_key().sign(&request);
    request.permit.as_mut().unwrap().seal = Some(seal);
    request
}

pub(crate) fn record(request: &ActionRequest) -> OutRecord {
    let message = cdevents::write_remediation("suture/test", request).unwrap();
    OutRecord::new("suture.remediations", message.key, message.value)
}

pub(crate) fn log(partitions: i32) -> MemoryLog {
    let log = MemoryLog::default();
    let topics =
        ["suture.remediations", "suture.outcomes", "suture.commands"].map(|name| TopicSpec::new(name, partitions));
    log.create_topics(&topics).unwrap();
    log
}

/// Writes requests, with permits for the robot where they have none and are autonomous.
pub(crate) fn write(log: &MemoryLog, requests: &[ActionRequest]) {
    let permit = |request: &ActionRequest| {
        let wanted = request.rung == Rung::Autonomous && request.permit.is_none();
        if wanted {
            permitted(request.clone(), "robot", FreezeEpoch::default())
        } else {
            request.clone()
        }
    };
    let records: Vec<OutRecord> = requests.iter().map(|request| record(&permit(request))).collect();
    log.appender().unwrap().append(&records).unwrap();
}

pub(crate) fn options() -> Options {
    Options {
        name: "robot".to_owned(),
        actions: vec!["roll*".to_owned()],
        keys: keys(),
        service_budget: Budget {
            actions: 1_000,
            per: Span::from_hours(1),
        },
        pipeline_budget: Budget {
            actions: 1_000,
            per: Span::from_hours(1),
        },
        ..Options::default()
    }
}

/// A kit at work on a thread.
pub(crate) struct AtWork {
    stop: Arc<AtomicBool>,
    thread: JoinHandle<Result<(), Error>>,
    // the kit's actions run on it
    runtime: Runtime,
}

impl AtWork {
    pub(crate) fn begin(log: impl Log + 'static, executor: impl Executor, options: Options) -> Self {
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(1)
            .enable_all()
            .build()
            .unwrap();
        let kit = Kit::new(Arc::new(log), executor, options, runtime.handle().clone(), || NOW)
            .unwrap()
            .signed_with(robot_key());
        let stop = Arc::new(AtomicBool::new(false));
        let stopped = Arc::clone(&stop);
        Self {
            stop,
            thread: std::thread::spawn(move || kit.run(&stopped)),
            runtime,
        }
    }

    pub(crate) fn is_over(&self) -> bool {
        self.thread.is_finished()
    }

    pub(crate) fn end(self) -> Result<(), Error> {
        self.stop.store(true, Ordering::Relaxed);
        let result = self.thread.join().unwrap();
        self.runtime.shutdown_background();
        result
    }
}

/// Every committed outcome, in order for each partition.
pub(crate) fn outcomes(log: &MemoryLog) -> Vec<Outcome> {
    let mut found = Vec::new();
    for partition in 0..log.topic("suture.outcomes").unwrap().unwrap().partitions {
        let at = TopicPartition::new("suture.outcomes", partition);
        let mut reader = log.reader(&at, 0, Isolation::ReadCommitted).unwrap();
        let mut take =
            |record: suture_log::RecordRef<'_>| found.push(records::decode::<Outcome>(record.value.unwrap()).unwrap());
        // not to its end: the transaction of a client that died may be open there
        reader.read(Duration::from_millis(5), 100_000, &mut take).unwrap();
    }
    found
}

/// Waits until as many outcomes that are not `started` are there, or `over` says that none will come any more.
pub(crate) fn wait_for(log: &MemoryLog, finals: usize, over: impl Fn() -> bool) -> Vec<Outcome> {
    let patience = Instant::now() + Duration::from_secs(60);
    loop {
        let was_over = over();
        let found = outcomes(log);
        if found
            .iter()
            .filter(|outcome| outcome.status != OutcomeStatus::Started)
            .count()
            >= finals
            || was_over
        {
            return found;
        }
        assert!(Instant::now() < patience, "only {found:?}");
        std::thread::yield_now();
    }
}

pub(crate) fn statuses(outcomes: &[Outcome], id: &str) -> Vec<OutcomeStatus> {
    outcomes
        .iter()
        .filter(|outcome| *outcome.action == *id)
        .map(|outcome| outcome.status)
        .collect()
}

/// Remembers what it was asked, and does as it is told.
#[derive(Clone, Default)]
pub(crate) struct Recorder {
    pub(crate) calls: Arc<Mutex<Vec<String>>>,
    pub(crate) together: Arc<AtomicUsize>,
    pub(crate) answer: Option<ExecuteError>,
    pub(crate) not_repeatable: bool,
    pub(crate) never_ends: bool,
    pub(crate) panics: bool,
}

impl Executor for Recorder {
    async fn execute(&self, request: &ActionRequest, calls: &Calls) -> Result<String, ExecuteError> {
        calls.may().await?;
        calls.made("remember", "ok");
        assert_eq!(
            self.together.fetch_add(1, Ordering::SeqCst),
            0,
            "two at once in one partition"
        );
        self.calls.lock().unwrap().push(request.id.to_string());
        tokio::task::yield_now().await;
        self.together.fetch_sub(1, Ordering::SeqCst);
        assert!(!self.panics, "as it was told");
        if self.never_ends {
            std::future::pending::<()>().await;
        }
        self.answer.clone().map_or_else(|| Ok("done".to_owned()), Err)
    }

    fn repeatable(&self) -> bool {
        !self.not_repeatable
    }
}

impl Recorder {
    pub(crate) fn calls(&self) -> Vec<String> {
        self.calls.lock().unwrap().clone()
    }
}
