//! `ip monitor`: the changes in the kernel as another program receives them.

use std::{
    fs::File,
    process::{Child, Command},
    thread,
    time::{Duration, Instant},
};

use super::{Folder, sh};

/// A running `ip monitor`; it is killed when this value is dropped.
pub struct Monitor {
    child: Child,
    folder: Folder,
    marks: u32,
}

impl Monitor {
    /// Starts `ip monitor` for some kinds of objects, which must include `route`. Returns when it
    /// listens.
    pub fn start(objects: &[&str]) -> Monitor {
        let folder = Folder::new();
        let out = File::create(folder.join("lines")).unwrap();
        let child = Command::new("ip").arg("monitor").args(objects).stdout(out).spawn().unwrap();
        let mut monitor = Monitor { child, folder, marks: 0 };
        monitor.lines();
        monitor
    }

    /// Returns the lines since the last call. A route of the test's own marks the end. It is added
    /// again until it arrives, because `ip monitor` may not listen yet at first.
    pub fn lines(&mut self) -> Vec<String> {
        let began = Instant::now();
        loop {
            self.marks += 1;
            let mark = format!("203.0.113.{}", self.marks);
            sh(&format!("ip route add blackhole {mark}"));
            let until = Instant::now() + Duration::from_millis(500);
            while Instant::now() < until {
                let text = self.folder.read("lines");
                if let Some((before, _)) = text.split_once(&format!("blackhole {mark} ")) {
                    let since = before.rfind("blackhole 203.0.113.").map_or(0, |at| at);
                    let lines = before[since..].lines().filter(|l| !l.contains("blackhole"));
                    return lines.map(str::to_owned).collect();
                }
                thread::sleep(Duration::from_millis(5));
            }
            assert!(began.elapsed() < Duration::from_secs(20), "ip monitor prints nothing");
        }
    }
}

impl Drop for Monitor {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
