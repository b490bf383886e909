//! The program as a process.

use std::{
    fs,
    io::Write as _,
    path::{Path, PathBuf},
    process::{Child, ChildStdin, Command, ExitStatus, Output, Stdio},
    time::Duration,
};

use crate::{broker, disk::Disk, wait};

/// The program's path.
///
/// # Panics
/// Where it was not built.
#[must_use]
pub fn path() -> PathBuf {
    let own = std::env::current_exe().expect("this program has a path");
    let program = own.ancestors().nth(2).expect("cargo's profile folder").join("suture");
    assert!(
        program.exists(),
        "{} is not built: run cargo build --package suture, or scripts/test",
        program.display()
    );
    program
}

/// Runs it to its end.
#[must_use]
pub fn output(args: &[&str]) -> Output {
    Command::new(path())
        .args(args)
        .stdin(Stdio::null())
        .output()
        .expect("the program starts")
}

/// A run of the program that goes on; killed where a test ends without stopping it.
#[derive(Debug)]
pub struct Process {
    child: Child,
    log: PathBuf,
    /// What a worker is told things by.
    input: Option<ChildStdin>,
}

impl Process {
    /// Starts it, its output in a file.
    #[must_use]
    pub fn start(name: &str, folder: &Path, args: &[&str], env: &[(&str, &str)]) -> Self {
        Self::spawn(Command::new(path()), name, folder, args, env, Stdio::null())
    }

    /// The same where that disk is seen.
    #[must_use]
    pub fn start_on(disk: &Disk, name: &str, folder: &Path, args: &[&str], env: &[(&str, &str)]) -> Self {
        let program = disk.command(&path().display().to_string());
        Self::spawn(program, name, folder, args, env, Stdio::null())
    }

    /// Starts the worker of these tests, which can be told things.
    #[must_use]
    pub fn start_worker(name: &str, folder: &Path, args: &[&str], env: &[(&str, &str)]) -> Self {
        let own = std::env::current_exe().expect("this program has a path");
        let profile = own.ancestors().nth(2).expect("cargo's profile folder");
        let worker = profile.join("suture-test-worker");
        Self::spawn(Command::new(worker), name, folder, args, env, Stdio::piped())
    }

    fn spawn(
        mut program: Command,
        name: &str,
        folder: &Path,
        args: &[&str],
        env: &[(&str, &str)],
        input: Stdio,
    ) -> Self {
        let log = folder.join(format!("{name}.log"));
        let out = fs::OpenOptions::new()
            .create(true)
            .append(true)
            .open(&log)
            .expect("the folder can be written");
        let mut child = program
            .args(args)
            .envs(env.iter().copied())
            .stdin(input)
            .stdout(out.try_clone().expect("a file can be shared"))
            .stderr(out)
            .spawn()
            .expect("the program starts");
        let input = child.stdin.take();
        Self { child, log, input }
    }

    /// Tells a worker something.
    pub fn tell(&mut self, line: &str) {
        let input = self.input.as_mut().expect("a worker");
        writeln!(input, "{line}").expect("the worker listens");
    }

    /// kill -9, and waits until it is gone.
    pub fn kill(mut self) {
        self.child.kill().expect("a child can be killed");
        self.child.wait().expect("a child can be waited for");
    }

    /// What it printed.
    #[must_use]
    pub fn log(&self) -> String {
        fs::read_to_string(&self.log).unwrap_or_default()
    }

    /// Sends it a signal, such as `TERM`, `STOP` or `KILL`.
    pub fn signal(&self, name: &str) {
        let _ = Command::new("kill")
            .args([&format!("-{name}"), &self.child.id().to_string()])
            .status();
    }

    /// Waits for its end.
    ///
    /// # Panics
    /// Where it does not come in time.
    pub fn ended(&mut self, within: Duration) -> ExitStatus {
        let log = self.log.clone();
        let child = &mut self.child;
        wait::until(
            &format!("the end of the process that logs to {}", log.display()),
            within,
            || child.try_wait().expect("a child can be waited for"),
        )
    }

    /// Whether it still runs.
    pub fn runs(&mut self) -> bool {
        matches!(self.child.try_wait(), Ok(None))
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        self.child.kill().ok();
        self.child.wait().ok();
    }
}

/// A folder for one test's files, below cargo's target folder so that it can be looked at after a failure.
#[must_use]
pub fn folder(name: &str) -> PathBuf {
    let folder = broker::target_folder()
        .join("test-data")
        .join(format!("{name}-{}", std::process::id()));
    fs::create_dir_all(&folder).expect("the target folder can be written");
    folder
}
