//! `kinglet bgp`: prints the peers and the routes of the daemon's BGP speaker.

use super::context::print;
use crate::{
    cli::{Format, LowArgs},
    error::{Error, Result},
    report::{SOCKET, ask},
};

/// Prints a page of the daemon's BGP speaker: the peers or the routes. Fails if no daemon runs.
pub(crate) fn bgp(args: &LowArgs) -> Result<u8> {
    let socket = args.run_dir.join(SOCKET);
    let doing = || format!("asking the daemon at {}", socket.display());
    let page = match &args.peer {
        _ if !args.bgp_routes => "/bgp".to_owned(),
        None => "/bgp/routes".to_owned(),
        Some(peer) if args.only_out => format!("/bgp/out/{peer}"),
        Some(peer) => format!("/bgp/in/{peer}"),
    };
    let json = if args.format == Format::Json { ".json" } else { "" };
    match ask(&socket, &format!("{page}{json}")) {
        Ok(Some(reply)) => print(&reply.page).map(|_| u8::from(!reply.right)),
        Ok(None) => Err(Error::new(
            doing(),
            "no kinglet runs here: start one (kinglet run), or set --run-dir to its folder",
        )),
        Err(e) => Err(Error::new(doing(), e)),
    }
}
