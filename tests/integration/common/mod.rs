//! Shared parts of the tests: the built programs, temporary folders, an API server, network
//! namespaces.
//!
//! The programs are run as a user runs them. This module uses nothing of the library.

#![allow(dead_code, reason = "each test file uses its own part")]

pub mod monitor;
pub mod namespace;

use std::ffi::OsStr;
use std::fs::{self, File};
use std::io::{BufRead, BufReader, Read, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::thread;
use std::time::{Duration, Instant};

/// Leaks a value, so that references to it live as long as the test.
pub fn kept<T>(value: T) -> &'static T {
    Box::leak(Box::new(value))
}

/// A temporary folder; it is removed with its contents when this value is dropped.
pub struct Folder(PathBuf);

impl Folder {
    pub fn new() -> Folder {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let count = COUNT.fetch_add(1, Ordering::Relaxed);
        let path = std::env::temp_dir().join(format!("kinglet-{}-{count}", std::process::id()));
        fs::create_dir_all(&path).unwrap();
        Folder(path)
    }

    /// Returns a copy of one folder of `tests/fixtures/objects/` that a test may change.
    pub fn objects(name: &str) -> Folder {
        let folder = Folder::new();
        for entry in fs::read_dir(recorded(name)).unwrap() {
            let from = entry.unwrap().path();
            fs::copy(&from, folder.0.join(from.file_name().unwrap())).unwrap();
        }
        folder
    }

    pub fn path(&self) -> &Path {
        &self.0
    }

    pub fn join(&self, name: &str) -> PathBuf {
        self.0.join(name)
    }

    pub fn read(&self, name: &str) -> String {
        fs::read_to_string(self.join(name)).unwrap()
    }

    /// Replaces a file in one step, so that no reader sees a part of it.
    pub fn write(&self, name: &str, text: impl AsRef<[u8]>) {
        let new = self.join(".new");
        fs::write(&new, text).unwrap();
        fs::rename(new, self.join(name)).unwrap();
    }

    /// Replaces a text in a file. Fails if the file does not have the text.
    pub fn edit(&self, name: &str, from: &str, to: &str) {
        let text = self.read(name);
        assert!(text.contains(from), "{name} has no {from}");
        self.write(name, text.replace(from, to));
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

/// Returns the path of one folder of `tests/fixtures/objects/`.
pub fn recorded(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/objects").join(name)
}

/// A running test API server; it is killed when this value is dropped.
pub struct Server {
    child: Child,
    pub address: String,
    log: Folder,
}

impl Server {
    /// Serves a folder of objects, with further options of `apiserver` (`apiserver --help` lists
    /// them).
    pub fn start<A: AsRef<OsStr>>(objects: &Path, options: &[A]) -> Server {
        let log = Folder::new();
        let mut child = Command::new(example("apiserver"))
            .args(["--listen", "127.0.0.1:0", "--objects"])
            .arg(objects)
            .arg("--log")
            .arg(log.join("requests"))
            .args(options)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .spawn()
            .expect("starting the test API server");
        let mut line = String::new();
        BufReader::new(child.stdout.take().unwrap()).read_line(&mut line).unwrap();
        let address = line.strip_prefix("listening on ").map(|a| a.trim().to_string());
        let Some(address) = address else {
            let _ = child.kill();
            panic!("the test API server did not start; its first line is {line:?} (see stderr)");
        };
        Server { child, address, log }
    }

    pub fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// Returns the requests so far, one line each: method, path, status, body bytes, and the fault
    /// that changed the answer, if any.
    pub fn requests(&self) -> Vec<String> {
        let text = fs::read_to_string(self.log.join("requests")).unwrap_or_default();
        text.lines().map(String::from).collect()
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Returns the path of an example that cargo builds beside the binary. Fails if it is not built.
pub fn example(name: &str) -> PathBuf {
    let folder = Path::new(env!("CARGO_BIN_EXE_kinglet")).parent().unwrap();
    let path = folder.join("examples").join(name);
    assert!(path.exists(), "{} is not there: run cargo build --examples", path.display());
    path
}

/// The result of a program that has ended.
#[derive(Debug)]
pub struct Outcome {
    /// The exit code; `None` if a signal ended the program.
    pub code: Option<i32>,
    pub stdout: String,
    pub stderr: String,
}

/// Runs kinglet with a text on its standard input. Fails if it does not end within a minute.
pub fn kinglet<A: AsRef<OsStr>>(args: &[A], stdin: impl AsRef<[u8]>) -> Outcome {
    let mut command = Command::new(env!("CARGO_BIN_EXE_kinglet"));
    command.args(args).env_remove("NODE_NAME").env_remove("KUBECONFIG");
    command.env_remove("KUBERNETES_SERVICE_HOST").env_remove("KUBERNETES_SERVICE_PORT");
    run(&mut command, stdin.as_ref())
}

/// Runs a program to its end. Its output goes to files, so that no pipe fills up.
pub fn run(command: &mut Command, stdin: &[u8]) -> Outcome {
    let folder = Folder::new();
    let out = |name: &str| File::create(folder.join(name)).unwrap();
    let mut child = command
        .stdin(Stdio::piped())
        .stdout(out("stdout"))
        .stderr(out("stderr"))
        .spawn()
        .unwrap_or_else(|e| panic!("starting {command:?}: {e}"));
    let (mut pipe, text) = (child.stdin.take().unwrap(), stdin.to_vec());
    let feed = thread::spawn(move || pipe.write_all(&text)); // an error if the program does not read all of it
    let deadline = Instant::now() + Duration::from_secs(60);
    let status = loop {
        if let Some(status) = child.try_wait().unwrap() {
            break status;
        }
        if Instant::now() > deadline {
            let _ = child.kill();
            let _ = child.wait();
            panic!("{command:?} did not end within a minute: {}", read(&folder, "stderr"));
        }
        thread::sleep(Duration::from_millis(2));
    };
    let _ = feed.join();
    Outcome {
        code: status.code(),
        stdout: read(&folder, "stdout"),
        stderr: read(&folder, "stderr"),
    }
}

fn read(folder: &Folder, name: &str) -> String {
    let mut bytes = Vec::new();
    File::open(folder.join(name)).unwrap().read_to_end(&mut bytes).unwrap();
    String::from_utf8_lossy(&bytes).into_owned()
}

/// Runs a shell command and returns its output. Fails if the command fails.
pub fn sh(line: &str) -> String {
    let out = Command::new("sh").args(["-c", line]).output().unwrap();
    assert!(out.status.success(), "{line}: {}", String::from_utf8_lossy(&out.stderr));
    String::from_utf8(out.stdout).unwrap()
}
