//! The demo itself: the shop's time passes step by step, and the planes follow.

use std::{
    collections::{BTreeSet, VecDeque},
    net::SocketAddr,
    path::PathBuf,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    thread,
    time::{Duration, Instant},
};

use anyhow::Context as _;
use suture_config::Pipeline;
use suture_event::{ActionRequest, Command, CommandKind, Rung, Span, Timestamp};
use suture_permit::Role;
use suture_service::{keys, load};
use suture_simulate::{Healer, Shop, Tick};

use crate::{
    DemoEvent, Flow, Mode, Story, Table, View, model::SHOWN, operator::Operator, picture, web::Web, world::World,
};

/// What to play, and how.
#[derive(Debug, Clone)]
pub struct Options {
    /// Fixes everything that happens in the shop.
    pub seed: u64,
    /// How many things break.
    pub faults: usize,
    /// Go on breaking things until told to stop.
    pub keep: bool,
    /// What the reader sees of it.
    pub mode: Mode,
    /// Simulated seconds a second; absent: 450 on a live screen, and otherwise as fast as it goes.
    pub speed: Option<f64>,
    /// How many days the shop is watched before anything breaks.
    pub learn: u8,
    /// Whether to draw the screen as it is two minutes after the first thing was healed.
    pub picture: bool,
    /// Where to show it in a browser: the shop then goes slowly enough to be watched, waits a while for whoever watches where an
    /// action needs approval, and what there was stays until the reader leaves.
    pub web: Option<SocketAddr>,
    /// Who may look on there.
    pub tokens: Option<PathBuf>,
}

pub(crate) const PIPELINE: &str = include_str!("../../../pipelines/demo.yaml");
/// With `--keep`, so many things break at most: two months.
const KEPT_FAULTS: usize = 2_000;
const LIVE_SPEED: f64 = 450.0;
/// In a browser a minute of the shop's passes in a second.
const WEB_SPEED: f64 = 60.0;
/// The shop stands still for so long where whoever watches is asked; then somebody on call answers.
const ASKED: Duration = Duration::from_secs(90);
/// How often it is looked whether they have answered.
const GLANCE: Duration = Duration::from_millis(50);
const STEP: Span = Span::from_secs(10);
/// While learning, the planes may be so far behind.
const BEHIND: Span = Span::from_mins(60);
/// Somebody on call answers after this long.
const ON_CALL: Span = Span::from_secs(45);
/// When the picture is taken, after the first healing.
const PICTURE: Span = Span::from_mins(2);
/// Exit code of a story that was left before its end, as shells have it for Ctrl-C.
pub const INTERRUPTED: u8 = 130;
/// Columns and rows of the picture.
const FRAME: (u16, u16) = (120, 36);

/// How a performance went.
pub struct Performance {
    /// The accounts.
    pub table: Table,
    /// Whether the story came to its end, or was to have none.
    pub over: bool,
    /// The screen as a picture, where one was asked for.
    pub picture: Option<String>,
}

/// Plays the story from the first step to the last, or until the reader leaves.
///
/// # Errors
/// Where a part of it fails.
pub fn perform(options: &Options) -> anyhow::Result<Performance> {
    let (pipeline, problems) = load::examine_bytes("the demo's pipeline", PIPELINE.as_bytes());
    let mut pipeline = pipeline.ok_or(load::BadPipeline(problems))?;
    // nobody but this process can write to its log
    pipeline.remediate.keys = keys::embedded_ring();
    pipeline.remediate.executor = "shop".to_owned();
    let web = options
        .web
        .map(|listen| Web::new(listen, options.tokens.as_deref()))
        .transpose()?;
    if let Some(web) = &web {
        web.admit(&mut pipeline);
    }
    let pipeline = Arc::new(pipeline);
    let mut demo = Demo::start(options, &pipeline, web)?;
    let ended = demo.play();
    if matches!(ended, Ok(true)) {
        demo.stay();
    }
    let Demo {
        world, view, picture, ..
    } = demo;
    let screen = view.close();
    let drained = world.end();
    let over = ended?;
    drained?;
    let last = || crate::picture(&screen, FRAME.0, FRAME.1);
    let picture = options.picture.then(|| picture.unwrap_or_else(last));
    Ok(Performance {
        table: screen.story().table(),
        over,
        picture,
    })
}

struct Demo<'a> {
    options: &'a Options,
    operator: Operator,
    world: World,
    view: View,
    interrupted: Arc<AtomicBool>,
    /// Requests that wait for a human.
    to_approve: Vec<ActionRequest>,
    /// Requests that the executor has not taken up yet, by id.
    to_take_up: VecDeque<Arc<str>>,
    picture_at: Option<Timestamp>,
    picture: Option<String>,
    /// When the present part began, learning or the story, by either clock.
    began: (Instant, Timestamp),
    speed: f64,
    web: Option<Web>,
    /// Requests that whoever watches was asked about.
    asked: BTreeSet<Arc<str>>,
}

impl<'a> Demo<'a> {
    fn start(options: &'a Options, pipeline: &Arc<Pipeline>, mut web: Option<Web>) -> anyhow::Result<Self> {
        let shop = Shop::new(suture_simulate::Options {
            seed: options.seed,
            step: STEP,
            warmup: Span::from_hours(24 * i64::from(options.learn)),
            faults: if options.keep {
                KEPT_FAULTS.max(options.faults)
            } else {
                options.faults
            },
            ..suture_simulate::Options::default()
        })?;
        let (edges, now) = (shop.topology(), shop.now());
        let operator = Operator::new(shop);
        let store = web.as_ref().map(|web| web.store.clone());
        let world = World::start(pipeline, edges.clone(), operator.clone(), store)?;
        if let Some(web) = &mut web {
            // where the table is for a program, the address is not
            let url = web.open(&edges)?;
            if options.mode == Mode::Quiet {
                eprintln!("{url}");
            } else {
                println!("{url}\n");
            }
        }
        let interrupted = Arc::new(AtomicBool::new(false));
        listen(&interrupted)?;
        let view = View::open(options.mode, Story::new(&edges)).context("setting up the terminal")?;
        let default = match (view.is_live(), &web) {
            (true, _) => LIVE_SPEED,
            (false, Some(_)) => WEB_SPEED,
            (false, None) => f64::INFINITY,
        };
        Ok(Self {
            options,
            operator,
            world,
            view,
            interrupted,
            to_approve: Vec::new(),
            to_take_up: VecDeque::new(),
            picture_at: None,
            picture: None,
            began: (Instant::now(), now),
            speed: options.speed.filter(|speed| *speed > 0.0).unwrap_or(default),
            web,
            asked: BTreeSet::new(),
        })
    }

    /// Goes on showing in the browser what there was.
    fn stay(&self) {
        if self.web.is_some() {
            eprintln!("The story is over; the page stays until Ctrl-C.");
            while !self.interrupted.load(Ordering::SeqCst) {
                thread::sleep(GLANCE);
            }
        }
    }

    /// Plays to the end; `false` where the reader left before.
    fn play(&mut self) -> anyhow::Result<bool> {
        let (begin, warm, end) = self.operator.look(|shop| (shop.now(), shop.warm_at(), shop.end()));
        let shown_from = warm.minus(SHOWN);
        let mut tick = Tick::default();
        let mut was_learning = true;
        while tick.at < end {
            self.operator.advance(&mut tick);
            let learning = tick.at < warm;
            if was_learning && !learning {
                self.began = (Instant::now(), tick.at);
            }
            was_learning = learning;
            let share = tick.at.since(begin).as_secs_f64() / warm.since(begin).as_secs_f64();
            self.clock(tick.at, learning.then_some(share))?;
            if tick.at >= shown_from {
                self.view.show(&DemoEvent::Samples(tick.samples.clone()))?;
            }
            self.step(&tick, learning)?;
            self.look_on(&tick, learning)?;
            let left = self.view.refresh()? == Flow::Quit || self.interrupted.load(Ordering::SeqCst);
            if left {
                // what is kept running has no end of its own
                return Ok(self.options.keep);
            }
            if !learning && self.speed.is_finite() {
                let due = Duration::from_secs_f64(tick.at.since(self.began.1).as_secs_f64() / self.speed);
                thread::sleep(due.saturating_sub(self.began.0.elapsed()));
            }
        }
        Ok(true)
    }

    /// Shows the browser where the shop is, takes the words that were said there, and waits for whoever watches where an action
    /// needs approval.
    fn look_on(&mut self, tick: &Tick, learning: bool) -> anyhow::Result<()> {
        let Some(web) = &self.web else { return Ok(()) };
        web.set_now(tick.at);
        if tick.at.as_millis() % Span::from_mins(1).as_millis() == 0 {
            web.store.set_stages(self.world.stages());
        }
        web.store.set_note(
            learning.then(|| "The shop is watched to learn what is usual; then things begin to break.".to_owned()),
        );
        let began = Instant::now();
        loop {
            for command in self.web.as_ref().map(Web::words).unwrap_or_default() {
                self.to_approve.retain(|request| !answers(&command, request));
                self.world.command(&command)?;
            }
            let open = |request: &&ActionRequest| !self.asked.contains(&request.id);
            let waits = self.to_approve.iter().any(|request| open(&request));
            let over = began.elapsed() >= ASKED || self.interrupted.load(Ordering::SeqCst);
            if !waits || over {
                break;
            }
            thread::sleep(GLANCE);
        }
        self.asked
            .extend(self.to_approve.iter().map(|request| request.id.clone()));
        // the shop stood still meanwhile
        self.began.0 += began.elapsed();
        Ok(())
    }

    fn clock(&mut self, at: Timestamp, learning: Option<f64>) -> anyhow::Result<()> {
        self.world.set_clock(at);
        let speed = at.since(self.began.1).as_secs_f64() / self.began.0.elapsed().as_secs_f64().max(1e-3);
        Ok(self.view.show(&DemoEvent::Clock { at, speed, learning })?)
    }

    /// Feeds one step to the planes, and carries what they decide back to the shop.
    fn step(&mut self, tick: &Tick, learning: bool) -> anyhow::Result<()> {
        for event in &tick.changes {
            self.world.change(tick.at, event)?;
        }
        for outcome in &tick.outcomes {
            self.world.outcome(&outcome.action)?;
        }
        // an executor works on one request at a time; the next one's turn has come
        self.hand_over()?;
        for request in self.approvals_due(tick.at) {
            self.world.command(&approval(&request, tick.at))?;
        }
        self.world.telemetry(tick.at, &tick.samples)?;
        if learning {
            self.world.keep_up(tick.at.minus(BEHIND))?;
            let mut quiet = self.world.take();
            quiet.retain(|event| !matches!(event, DemoEvent::Change(_)));
            return self.tell(quiet);
        }
        self.world.settle(tick.at)?;
        let mut events = self.world.take();
        self.operator.look(|shop| {
            let fault = |id: &usize| shop.truth().get(*id).cloned();
            events.extend(tick.started.iter().filter_map(fault).map(DemoEvent::FaultInjected));
            events.extend(tick.healed.iter().filter_map(fault).map(DemoEvent::FaultHealed));
        });
        let by_action = |event: &DemoEvent| matches!(event, DemoEvent::FaultHealed(f) if matches!(f.healed_by, Some(Healer::Action(_))));
        if self.picture_at.is_none() && events.iter().any(by_action) {
            self.picture_at = Some(tick.at.plus(PICTURE));
        }
        self.tell(events)?;
        self.hand_over()?;
        if self.options.picture && self.picture.is_none() && self.picture_at.is_some_and(|due| tick.at >= due) {
            self.picture = Some(picture(self.view.screen(), FRAME.0, FRAME.1));
        }
        Ok(())
    }

    /// Waits until the executor has taken up what it can: it does one action at a time.
    fn hand_over(&mut self) -> anyhow::Result<()> {
        while let Some(id) = self.to_take_up.front().cloned() {
            if !self.operator.was_asked(&id) && self.operator.is_busy() {
                return Ok(());
            }
            let operator = self.operator.clone();
            self.world.executor(&id, || operator.was_asked(&id))?;
            self.to_take_up.pop_front();
        }
        Ok(())
    }

    fn approvals_due(&mut self, at: Timestamp) -> Vec<ActionRequest> {
        let due = |request: &ActionRequest| at.since(request.at) >= ON_CALL;
        let (due, later) = std::mem::take(&mut self.to_approve).into_iter().partition(due);
        self.to_approve = later;
        due
    }

    /// Shows what happened, by time, and notes what has to be done about it.
    fn tell(&mut self, mut events: Vec<DemoEvent>) -> anyhow::Result<()> {
        events.sort_by_key(DemoEvent::place);
        for event in &events {
            if let DemoEvent::Remediation(request) = event {
                match request.rung {
                    Rung::Autonomous => self.to_take_up.push_back(request.id.clone()),
                    Rung::Supervised => self.to_approve.push(request.clone()),
                    Rung::Advise => {}
                }
            }
            self.view.show(event)?;
        }
        Ok(())
    }
}

/// Whether a command leaves nothing to wait for of a request.
fn answers(command: &Command, request: &ActionRequest) -> bool {
    match &command.kind {
        CommandKind::Approve { action } | CommandKind::Deny { action } => *action == request.id,
        CommandKind::Acknowledge { incident } | CommandKind::Label { incident, .. } => *incident == request.incident,
        CommandKind::Freeze => command.scope == request.scope,
        CommandKind::Undo { .. } | CommandKind::Thaw => false,
    }
}

/// What somebody on call says to a request that cannot be undone.
fn approval(request: &ActionRequest, at: Timestamp) -> Command {
    let mut command = Command {
        id: format!("approve-{}", request.id).into(),
        at,
        by: "somebody on call".into(),
        scope: request.scope.clone(),
        kind: CommandKind::Approve {
            action: request.id.clone(),
        },
        reason: "the evidence is plain".to_owned(),
        seal: None,
    };
    command.seal = Some(keys::embedded(Role::Person).sign(&command));
    command
}

/// Ctrl-C and SIGTERM end the demo with its table; a live screen sees Ctrl-C as a key.
fn listen(interrupted: &Arc<AtomicBool>) -> anyhow::Result<()> {
    let told = interrupted.clone();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let wait = move || {
        runtime.block_on(async {
            use tokio::signal::unix::{SignalKind, signal};
            let (Ok(mut terminate), Ok(mut interrupt)) =
                (signal(SignalKind::terminate()), signal(SignalKind::interrupt()))
            else {
                return;
            };
            tokio::select! { _ = terminate.recv() => {}, _ = interrupt.recv() => {} }
            told.store(true, Ordering::SeqCst);
            tokio::select! { _ = terminate.recv() => {}, _ = interrupt.recv() => {} }
            std::process::exit(i32::from(INTERRUPTED));
        });
    };
    thread::Builder::new().name("signals".to_owned()).spawn(wait)?;
    Ok(())
}
