//! A real Apache Kafka, started and stopped by the tests: one node in KRaft mode on loopback, its data in a folder that goes
//! away with it.

use std::{
    fs,
    io::{BufRead, BufReader, Write},
    net::{Ipv4Addr, TcpListener, TcpStream},
    path::{Path, PathBuf},
    process::{Child, ChildStdin, Command, Stdio},
    sync::{Arc, Mutex, OnceLock, PoisonError, Weak},
    time::{Duration, Instant},
};

use crate::{disk::Disk, wait};

/// How long the broker may take until it answers.
const START_WITHIN: Duration = Duration::from_secs(120);
/// Tries, should another process take a port between its choice and its use.
const TRIES: usize = 3;

/// A running broker. It ends when this is dropped, and when this process dies in whatever way.
#[derive(Debug)]
pub struct Broker {
    port: u16,
    /// The listener that tells clients to come back through a proxy, and the port where it tells them to.
    behind: (u16, u16),
    /// What its data lie on, where that is not the folder's own disk.
    disk: Option<Disk>,
    folder: tempfile::TempDir,
    /// Its end tells the watchdog to kill the broker.
    watchdog: Mutex<Option<(Child, ChildStdin)>>,
    pid: Mutex<u32>,
}

/// The broker that the tests of one process share; it ends with the last that holds it.
///
/// # Panics
/// With what is missing on this machine, where it cannot be started: a test that needs it must not pass without.
#[must_use]
pub fn shared() -> Arc<Broker> {
    static SHARED: OnceLock<Mutex<Weak<Broker>>> = OnceLock::new();
    let shared = SHARED.get_or_init(Mutex::default);
    let mut slot = shared.lock().unwrap_or_else(PoisonError::into_inner);
    if let Some(broker) = slot.upgrade() {
        return broker;
    }
    let broker = Arc::new(Broker::start());
    *slot = Arc::downgrade(&broker);
    broker
}

impl Broker {
    /// Starts one.
    ///
    /// # Panics
    /// With what is missing on this machine.
    #[must_use]
    pub fn start() -> Self {
        Self::start_on(|_| None)
    }

    /// Starts one whose data lie on a disk of their own, if `disk` gives one for the folder.
    ///
    /// # Panics
    /// With what is missing on this machine.
    #[must_use]
    pub fn start_on(disk: impl Fn(&Path) -> Option<Disk>) -> Self {
        let jars = jars();
        let mut last = String::new();
        for _ in 0..TRIES {
            match Self::try_start(&jars, &disk) {
                Ok(broker) => return broker,
                Err(reason) => last = reason,
            }
        }
        panic!("the Kafka broker that this test needs does not start: {last}");
    }

    fn try_start(jars: &Path, disk: &dyn Fn(&Path) -> Option<Disk>) -> Result<Self, String> {
        let folder = tempfile::Builder::new()
            .prefix("suture-broker-")
            .tempdir()
            .map_err(|e| e.to_string())?;
        let (port, controller) = (free_port(), free_port());
        let behind = (free_port(), free_port());
        let settings = folder.path().join("server.properties");
        let data = folder.path().join("data");
        fs::create_dir(&data).map_err(|e| e.to_string())?;
        let disk = disk(&data);
        // a folder below it: a disk of its own may hold what the broker takes for a topic's
        let data = data.join("logs");
        fs::write(&settings, properties(port, controller, behind, &data)).map_err(|e| e.to_string())?;
        fs::write(folder.path().join("log4j2.properties"), LOGGING).map_err(|e| e.to_string())?;
        let format = java(jars, folder.path(), disk.as_ref())
            .args([
                "kafka.tools.StorageTool",
                "format",
                "-t",
                "MkU3OEVBNTcwNTJENDM2Qg",
                "-c",
            ])
            .arg(&settings)
            .output()
            .map_err(|e| format!("java: {e}"))?;
        if !format.status.success() {
            return Err(format!(
                "formatting its storage: {}",
                String::from_utf8_lossy(&format.stderr).trim()
            ));
        }
        let broker = Self {
            port,
            behind,
            disk,
            folder,
            watchdog: Mutex::default(),
            pid: Mutex::default(),
        };
        broker.launch(jars)?;
        Ok(broker)
    }

    /// Runs the broker's process below a watchdog that kills it when this process is gone, and waits until it answers.
    fn launch(&self, jars: &Path) -> Result<(), String> {
        let log = fs::File::create(self.folder.path().join("broker.log")).map_err(|e| e.to_string())?;
        let java = java(jars, self.folder.path(), self.disk.as_ref());
        let mut watchdog = Command::new("bash")
            .args([
                "-c",
                r#""$@" >&2 & echo $!; read -r _; kill -CONT $! 2>/dev/null; kill -9 $!; wait 2>/dev/null"#,
                "watchdog",
            ])
            .arg(java.get_program())
            .args(java.get_args())
            .arg("kafka.Kafka")
            .arg(self.folder.path().join("server.properties"))
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(log)
            .spawn()
            .map_err(|e| format!("bash: {e}"))?;
        let mut line = String::new();
        let output = watchdog.stdout.take().ok_or("the watchdog has no output")?;
        BufReader::new(output).read_line(&mut line).map_err(|e| e.to_string())?;
        let stdin = watchdog.stdin.take().ok_or("the watchdog has no input")?;
        *self.pid.lock().unwrap_or_else(PoisonError::into_inner) = line.trim().parse().map_err(|_| "no process id")?;
        *self.watchdog.lock().unwrap_or_else(PoisonError::into_inner) = Some((watchdog, stdin));
        let deadline = Instant::now() + START_WITHIN;
        while !crate::kafka::answers(&self.address()) {
            if Instant::now() > deadline || !self.is_alive() {
                return Err(format!("it does not answer; its log ends with:\n{}", self.log_end()));
            }
            wait::tick();
        }
        Ok(())
    }

    /// `127.0.0.1:PORT`, for `bootstrap.servers`.
    #[must_use]
    pub fn address(&self) -> String {
        format!("127.0.0.1:{}", self.port)
    }

    /// The port that takes connections of a proxy, and the one at which clients who come through it are told to find the
    /// broker: where the proxy must listen.
    #[must_use]
    pub const fn behind(&self) -> (u16, u16) {
        self.behind
    }

    /// The disk that its data lie on, where they have one of their own.
    #[must_use]
    pub const fn disk(&self) -> Option<&Disk> {
        self.disk.as_ref()
    }

    /// Keeps its process from making any file longer, as far as this goes the same as a full disk.
    pub fn allow_no_growth(&self) {
        let pid = *self.pid.lock().unwrap_or_else(PoisonError::into_inner);
        let status = Command::new("prlimit")
            .args([&format!("--pid={pid}"), "--fsize=1"])
            .status();
        assert!(
            status.is_ok_and(|status| status.success()),
            "prlimit, of util-linux, is needed"
        );
    }

    /// Kills the broker's process as a power cut would, keeping its data.
    pub fn kill(&self) {
        let watchdog = self.watchdog.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let Some((mut child, stdin)) = watchdog {
            drop(stdin);
            let _ = child.wait();
        }
    }

    /// Starts it again on its data.
    ///
    /// # Panics
    /// Where it does not come up.
    pub fn restart(&self) {
        self.kill();
        self.launch(&jars())
            .unwrap_or_else(|reason| panic!("the Kafka broker does not come back: {reason}"));
    }

    /// Sends its process a signal, such as `STOP` and `CONT`.
    pub fn signal(&self, name: &str) {
        let pid = *self.pid.lock().unwrap_or_else(PoisonError::into_inner);
        let _ = Command::new("kill")
            .args([&format!("-{name}"), &pid.to_string()])
            .status();
    }

    /// Whether its process is there.
    #[must_use]
    pub fn is_alive(&self) -> bool {
        let pid = *self.pid.lock().unwrap_or_else(PoisonError::into_inner);
        Path::new(&format!("/proc/{pid}")).exists()
    }

    fn log_end(&self) -> String {
        let log = fs::read_to_string(self.folder.path().join("broker.log")).unwrap_or_default();
        let lines: Vec<&str> = log.lines().collect();
        lines[lines.len().saturating_sub(15)..].join("\n")
    }
}

impl Drop for Broker {
    fn drop(&mut self) {
        self.kill();
    }
}

/// The broker's jars, fetched once into the target folder.
fn jars() -> PathBuf {
    static JARS: OnceLock<PathBuf> = OnceLock::new();
    JARS.get_or_init(|| {
        for tool in ["java", "mvn"] {
            let found = Command::new(tool)
                .arg("-version")
                .stdout(Stdio::null())
                .stderr(Stdio::null())
                .status();
            assert!(
                found.is_ok(),
                "this test needs a real Kafka broker, and {tool} is missing: run scripts/setup"
            );
        }
        let folder = target_folder().join("kafka-jars-4.3.1");
        if !folder.join("complete").exists() {
            fetch(&folder);
        }
        folder
    })
    .clone()
}

/// Copies the jars with Maven. Several test processes may do so at once: each into a folder of its own, the first wins.
fn fetch(folder: &Path) {
    let own = folder.with_extension(std::process::id().to_string());
    let pom = Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/broker/pom.xml");
    let output = Command::new("mvn")
        .args(["-q", "-B", "-f"])
        .arg(pom)
        .arg("org.apache.maven.plugins:maven-dependency-plugin:3.8.1:copy-dependencies")
        .arg(format!("-DoutputDirectory={}", own.display()))
        .arg("-DincludeScope=runtime")
        .output()
        .expect("mvn starts");
    assert!(
        output.status.success(),
        "this test needs a real Kafka broker, and Maven cannot fetch it: {}",
        String::from_utf8_lossy(&output.stdout)
            .lines()
            .take(5)
            .collect::<Vec<_>>()
            .join(" ")
    );
    fs::write(own.join("complete"), "").expect("the target folder can be written");
    if fs::rename(&own, folder).is_err() {
        fs::remove_dir_all(&own).ok();
    }
    assert!(
        folder.join("complete").exists(),
        "{} is incomplete: remove it",
        folder.display()
    );
}

/// Where cargo builds to: a test's program lies in `TARGET/PROFILE/deps`, any other in `TARGET/PROFILE`.
#[must_use]
pub fn target_folder() -> PathBuf {
    let program = std::env::current_exe().expect("this program has a path");
    let marked = program.ancestors().find(|folder| folder.join("CACHEDIR.TAG").exists());
    marked
        .or_else(|| program.ancestors().nth(3))
        .expect("cargo's target folder")
        .to_owned()
}

fn java(jars: &Path, folder: &Path, disk: Option<&Disk>) -> Command {
    let mut command = match disk {
        Some(disk) => disk.command("java"),
        None => Command::new("java"),
    };
    command
        .args([
            "-Xmx512m",
            "-Xms128m",
            "-XX:+UseSerialGC",
            "-XX:TieredStopAtLevel=1",
            "-Djava.awt.headless=true",
        ])
        .arg(format!(
            "-Dlog4j2.configurationFile={}",
            folder.join("log4j2.properties").display()
        ))
        .arg("-cp")
        .arg(format!("{}/*", jars.display()));
    command
}

fn free_port() -> u16 {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("loopback has a free port");
    listener.local_addr().expect("a bound socket has an address").port()
}

/// Whether something listens there.
#[must_use]
pub fn listens(address: &str) -> bool {
    address
        .parse()
        .is_ok_and(|to| TcpStream::connect_timeout(&to, Duration::from_millis(500)).is_ok())
}

const LOGGING: &str = "rootLogger.level=WARN\nrootLogger.appenderRef.out.ref=out\nappender.out.type=Console\n\
                       appender.out.name=out\nappender.out.layout.type=PatternLayout\n\
                       appender.out.layout.pattern=%d %p %c: %m%n\n";

fn properties(port: u16, controller: u16, (behind, proxy): (u16, u16), data: &Path) -> String {
    let mut text = Vec::new();
    for (key, value) in [
        ("process.roles", "broker,controller"),
        ("node.id", "1"),
        ("controller.listener.names", "CONTROLLER"),
        (
            "listener.security.protocol.map",
            "PLAINTEXT:PLAINTEXT,PROXIED:PLAINTEXT,CONTROLLER:PLAINTEXT",
        ),
        ("inter.broker.listener.name", "PLAINTEXT"),
        ("offsets.topic.replication.factor", "1"),
        ("offsets.topic.num.partitions", "4"),
        ("transaction.state.log.replication.factor", "1"),
        ("transaction.state.log.min.isr", "1"),
        ("transaction.state.log.num.partitions", "4"),
        ("share.coordinator.state.topic.replication.factor", "1"),
        ("share.coordinator.state.topic.min.isr", "1"),
        ("group.initial.rebalance.delay.ms", "0"),
        ("auto.create.topics.enable", "false"),
        ("group.min.session.timeout.ms", "1000"),
        // the same for the newer protocol, in which the broker sets the times
        ("group.consumer.min.session.timeout.ms", "1000"),
        ("group.consumer.session.timeout.ms", "3000"),
        ("group.consumer.min.heartbeat.interval.ms", "500"),
        ("group.consumer.heartbeat.interval.ms", "500"),
    ] {
        writeln!(text, "{key}={value}").expect("a vector takes it");
    }
    let text = String::from_utf8(text).expect("written as text");
    format!(
        "{text}listeners=PLAINTEXT://127.0.0.1:{port},PROXIED://127.0.0.1:{behind},CONTROLLER://127.0.0.1:{controller}\n\
         advertised.listeners=PLAINTEXT://127.0.0.1:{port},PROXIED://127.0.0.1:{proxy}\n\
         controller.quorum.voters=1@127.0.0.1:{controller}\nlog.dirs={}\n",
        data.display()
    )
}
