//! The daemon's handle on the BGP speaker. It derives the BGP configuration from the cluster
//! (`announce::config`) and pushes it to the speaker when it changed. The speaker's thread starts with the
//! first configuration; without BGP there is no thread and no socket.

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

/// The BGP speaker as the daemon's loop sees it.
pub(super) struct BgpHandle {
    /// The running speaker; `None` before the first configuration.
    sessions: Option<Sessions>,
    learned_signal: Arc<EventFd>,
    /// The configuration that was pushed last.
    config: Option<Config>,
    /// True if the configuration may have changed since.
    dirty: bool,
    /// True if addresses of all Services are announced, not only of annotated ones.
    announces_all: bool,
    unmet: Vec<Unmet>,
}

impl BgpHandle {
    /// Returns a handle without a speaker. Fails if no eventfd can be had.
    pub(super) fn new() -> Result<BgpHandle> {
        let signal = EventFd::new().doing(|| "creating an eventfd for learned BGP routes")?;
        Ok(BgpHandle {
            sessions: None,
            learned_signal: Arc::new(signal),
            config: None,
            dirty: true,
            announces_all: false,
            unmet: Vec::new(),
        })
    }

    /// Has the configuration computed again with the next [`BgpHandle::update_config`].
    pub(super) fn mark_dirty(&mut self) {
        self.dirty = true;
    }

    /// Returns true if the configuration depends on one of these Services.
    pub(super) fn affects_config(&self, cluster: &Cluster, names: &FlatSet<Name>) -> bool {
        let Some(config) = &self.config else { return false };
        let announces = |name| cluster.services.get(name).is_some_and(|s| !s.advertise.is_silent());
        self.announces_all || !config.origin.services.is_empty() || names.iter().any(announces)
    }

    /// Returns the requests of the configuration that cannot be honoured.
    pub(super) fn unmet(&self) -> &[Unmet] {
        &self.unmet
    }

    /// Computes the configuration if it may have changed, and pushes it to the speaker if it did. If no
    /// configuration can be computed, the last one stays in force. Fails if the speaker cannot start.
    pub(super) fn update_config(
        &mut self,
        cluster: &Cluster,
        local: &Local,
        status: &SharedStatus,
    ) -> Result<()> {
        if local.options.bgp.is_none() || !std::mem::take(&mut self.dirty) {
            return Ok(());
        }
        self.announces_all = local.options.bgp.as_ref().is_some_and(BgpOptions::announces_services);
        let (config, unmet) = announce::config(cluster, local);
        self.unmet = unmet;
        let Some(config) = config.filter(|config| self.config.as_ref() != Some(config)) else {
            return Ok(());
        };
        if let Some(sessions) = &self.sessions {
            sessions.configure(config.clone());
        } else {
            let signal = Arc::clone(&self.learned_signal);
            let sessions = Sessions::start(config.clone(), seed(), signal)?;
            status.show_bgp(sessions.looker());
            self.sessions = Some(sessions);
        }
        self.config = Some(config);
        Ok(())
    }

    /// Returns true if BGP learned routes that were not fetched yet, and clears the signal.
    pub(super) fn has_learned(&self) -> bool {
        self.learned_signal.clear();
        self.sessions.as_ref().is_some_and(Sessions::has_learned)
    }

    /// Returns the learned routes, or `None` if they are those of the last call.
    pub(super) fn learned(&self) -> Option<Learned> {
        self.sessions.as_ref()?.learned()
    }

    /// Returns the descriptor that becomes readable when BGP learned routes.
    pub(super) fn learned_signal(&self) -> &EventFd {
        &self.learned_signal
    }

    /// Stops the speaker. With graceful restart the sessions are closed without a NOTIFICATION, so that
    /// peers keep our routes (RFC 4724 section 4.1); otherwise peers get Cease, Administrative Shutdown.
    pub(super) fn stop(&mut self) {
        let Some(sessions) = self.sessions.take() else { return };
        let graceful = self.config.as_ref().is_some_and(|config| config.own.restart.is_some());
        sessions.stop((!graceful).then(|| Notification::new(6, 2))); // RFC 4486 section 4
    }
}

/// Returns a number that differs between nodes, for the jitter of timers.
fn seed() -> u32 {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |now| now.subsec_nanos());
    now ^ std::process::id().rotate_left(16)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::{
        cluster::{Node, Service},
        local::Options,
    };

    #[test]
    fn a_service_affects_the_configuration_if_an_annotation_or_a_flag_announces_it() {
        let name = |name: &str| Name { namespace: "shop".into(), name: name.into() };
        let mut cluster = Cluster::default();
        for (short, announced) in [("quiet", false), ("announced", true)] {
            let mut service = Service { name: name(short), ..Service::default() };
            service.advertise.cluster_ips = announced.then_some(true);
            cluster.services.insert(name(short), service);
        }
        let internal_ips = vec![[192, 0, 2, 11].into()];
        let node = Node { name: "a".into(), internal_ips, ..Node::default() };
        cluster.nodes.insert("a".into(), node);
        let one = |short| FlatSet::from([name(short)]);
        let mut handle = BgpHandle::new().unwrap();
        assert!(!handle.affects_config(&cluster, &one("announced")), "there is no speaker yet");
        let options = Options { bgp: Some(BgpOptions::default()), ..Options::default() };
        let local = Local { node: "a".into(), options, host: None };
        handle.config = announce::config(&cluster, &local).0;
        assert!(handle.config.is_some());
        assert!(handle.affects_config(&cluster, &one("announced")));
        assert!(!handle.affects_config(&cluster, &one("quiet")));
        assert!(!handle.affects_config(&cluster, &one("removed")));
        handle.announces_all = true;
        assert!(handle.affects_config(&cluster, &one("quiet")));
    }
}
