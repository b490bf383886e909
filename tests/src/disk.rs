//! A small disk that can be filled up.

use std::{
    io::{BufRead, BufReader},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
};

/// A file system of a few megabytes in memory, mounted where only the processes started by [`Disk::command`] see it. It
/// goes away with this.
#[derive(Debug)]
pub struct Disk {
    /// Holds the namespaces in which it is mounted; ends with its standard input.
    keeper: Child,
    at: PathBuf,
}

impl Disk {
    /// Mounts one over a folder. `None` where this machine does not let its user have namespaces of their own.
    #[must_use]
    pub fn mount(at: &Path, megabytes: u32) -> Option<Self> {
        let script = r#"mount -t tmpfs -o size="$2m" tmpfs "$1" && echo mounted && read -r _"#;
        let mut keeper = Command::new("unshare")
            .args(["--user", "--map-root-user", "--mount", "bash", "-c", script, "keeper"])
            .arg(at)
            .arg(megabytes.to_string())
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .ok()?;
        let mut line = String::new();
        if let Some(output) = keeper.stdout.take() {
            BufReader::new(output).read_line(&mut line).ok()?;
        }
        if line.trim() != "mounted" {
            keeper.kill().ok();
            keeper.wait().ok();
            return None;
        }
        Some(Self {
            keeper,
            at: at.to_owned(),
        })
    }

    /// A program to be run where the disk is seen.
    #[must_use]
    pub fn command(&self, program: &str) -> Command {
        let mut command = Command::new("nsenter");
        command.arg(format!("--target={}", self.keeper.id())).args([
            "--user",
            "--mount",
            "--preserve-credentials",
            program,
        ]);
        command
    }

    /// Whether a file of that name is somewhere on it.
    #[must_use]
    pub fn holds(&self, name: &str) -> bool {
        let found = self
            .command("find")
            .arg(&self.at)
            .args(["-name", name])
            .output()
            .expect("find starts");
        !found.stdout.is_empty()
    }

    /// Writes until no byte is left.
    pub fn fill(&self) {
        let filler = format!("of={}", self.at.join("filler").display());
        let done = self
            .command("dd")
            .args(["if=/dev/zero", &filler, "bs=64k"])
            .stderr(Stdio::null())
            .status()
            .expect("dd starts");
        assert!(!done.success(), "the disk is not full");
        // the rest too, which a small file would find room in
        let rest = self
            .command("dd")
            .args(["if=/dev/zero", &filler, "bs=512", "oflag=append", "conv=notrunc"])
            .stderr(Stdio::null())
            .status()
            .expect("dd starts");
        assert!(!rest.success(), "the disk is not full");
    }

    /// Takes away what [`Self::fill`] wrote.
    pub fn free(&self) {
        let done = self
            .command("rm")
            .arg(self.at.join("filler"))
            .status()
            .expect("rm starts");
        assert!(done.success(), "the disk is not free again");
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        drop(self.keeper.stdin.take());
        self.keeper.wait().ok();
    }
}
