//! The BGP speaker beside the loop: what it has to say follows from the cluster, and is worked out
//! again when that may have changed. It is started when there is something to say for the first time;
//! where BGP is off, there is no thread and no socket.

use std::{
    sync::Arc,
    time::{SystemTime, UNIX_EPOCH},
};

use crate::{
    announce,
    bgp::{message::Notification, rib::Learned, session::Sessions},
    collections::FlatSet,
    desired::Unmet,
    error::{Doing, Result},
    model::{
        bgp::Config,
        cluster::{Cluster, Name},
        local::{BgpOptions, Local},
    },
    report::SharedStatus,
    sys::EventFd,
};

/// What the loop knows of the speaker.
pub struct BgpHandle {
    /// At work, once there was something to say.
    sessions: Option<Sessions>,
    news: Arc<EventFd>,
    /// What it was told last.
    said: Option<Config>,
    /// Whether that may be something else by now.
    due: bool,
    /// Whether the addresses of all Services are to be said.
    all: bool,
    unmet: Vec<Unmet>,
}

impl BgpHandle {
    /// Silent.
    pub fn new() -> Result<BgpHandle> {
        let news = Arc::new(EventFd::new().doing(|| "waiting for what BGP's peers say")?);
        let (sessions, said, unmet) = (None, None, Vec::new());
        Ok(BgpHandle { sessions, news, said, due: true, all: false, unmet })
    }

    /// What there is to say may be something else from now on.
    pub fn may_differ(&mut self) {
        self.due = true;
    }

    /// Whether what there is to say hangs on these Services.
    pub fn concerns(&self, cluster: &Cluster, names: &FlatSet<Name>) -> bool {
        let Some(said) = &self.said else { return false };
        let speaks = |name| cluster.services.get(name).is_some_and(|s| !s.advertise.is_silent());
        !said.origin.services.is_empty() || self.all || names.iter().any(speaks)
    }

    /// What can't be honoured of what was configured.
    pub fn unmet(&self) -> &[Unmet] {
        &self.unmet
    }

    /// Says what there is to say, where that may have changed. A configuration that can't be made is
    /// no reason to unsay the last one.
    pub fn speak(&mut self, cluster: &Cluster, local: &Local, facts: &SharedStatus) -> Result<()> {
        if local.options.bgp.is_none() || !std::mem::take(&mut self.due) {
            return Ok(());
        }
        self.all = local.options.bgp.as_ref().is_some_and(BgpOptions::announces_services);
        let (config, unmet) = announce::config(cluster, local);
        self.unmet = unmet;
        let Some(config) = config.filter(|config| self.said.as_ref() != Some(config)) else {
            return Ok(());
        };
        if let Some(sessions) = &self.sessions {
            sessions.configure(config.clone());
        } else {
            let sessions = Sessions::start(config.clone(), seed(), Arc::clone(&self.news))?;
            facts.show_bgp(sessions.looker());
            self.sessions = Some(sessions);
        }
        self.said = Some(config);
        Ok(())
    }

    /// Whether the peers taught something that was not asked for yet; rings no more.
    pub fn has_learned(&self) -> bool {
        self.news.clear();
        self.sessions.as_ref().is_some_and(Sessions::has_learned)
    }

    /// What the peers taught, where that is something else by now.
    pub fn learned(&self) -> Option<Learned> {
        self.sessions.as_ref()?.learned()
    }

    /// Rings when the peers taught something.
    pub fn news(&self) -> &EventFd {
        &self.news
    }

    /// Ends it. Peers that keep our routes over a restart are told nothing, all others that we go.
    pub fn end(&mut self) {
        let Some(sessions) = self.sessions.take() else { return };
        let graceful = self.said.as_ref().is_some_and(|config| config.own.restart.is_some());
        // Cease, Administrative Shutdown
        sessions.stop((!graceful).then(|| Notification::new(6, 2)));
    }
}

/// A number that other nodes do not have.
fn seed() -> u32 {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |now| now.subsec_nanos());
    now ^ std::process::id().rotate_left(16)
}
