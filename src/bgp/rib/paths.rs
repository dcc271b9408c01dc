//! A list of the paths to one destination. Most destinations have one path, which is stored without an
//! allocation. A table holds very many of these lists, so the type is no larger than a [`Path`].

use std::{ops, slice};

use super::path::Path;

/// Zero, one or several paths. It dereferences to a slice for everything that is not defined here.
#[derive(Debug, Default)]
#[allow(clippy::box_collection)] // a Vec has three words, but only one fits without enlarging Paths
pub(crate) enum Paths {
    /// No path.
    #[default]
    None,
    /// One path.
    One(Path),
    /// Several paths, or the last one that is left of several.
    Many(Box<Vec<Path>>),
}

impl Paths {
    /// Appends a path.
    pub(crate) fn push(&mut self, path: Path) {
        *self = match std::mem::take(self) {
            Paths::None => Paths::One(path),
            Paths::One(first) => Paths::Many(Box::new(vec![first, path])),
            Paths::Many(mut all) => {
                all.push(path);
                Paths::Many(all)
            }
        };
    }

    /// Removes every path for which `keep` returns false. `keep` may modify the path.
    pub(crate) fn retain_mut(&mut self, mut keep: impl FnMut(&mut Path) -> bool) {
        let any = match self {
            Paths::None => false,
            Paths::One(path) => keep(path),
            Paths::Many(all) => {
                all.retain_mut(keep);
                !all.is_empty()
            }
        };
        if !any {
            *self = Paths::None;
        }
    }
}

impl ops::Deref for Paths {
    type Target = [Path];

    fn deref(&self) -> &[Path] {
        match self {
            Paths::None => &[],
            Paths::One(path) => slice::from_ref(path),
            Paths::Many(all) => all,
        }
    }
}

impl ops::DerefMut for Paths {
    fn deref_mut(&mut self) -> &mut [Path] {
        match self {
            Paths::None => &mut [],
            Paths::One(path) => slice::from_mut(path),
            Paths::Many(all) => all,
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::bgp::rib::path::{PeerIndex, RouteAttrs};

    #[test]
    fn push_and_retain_keep_the_order_of_paths() {
        let attrs = Arc::new(RouteAttrs::local());
        let path = |from| Path {
            attrs: Arc::clone(&attrs),
            from: PeerIndex(from),
            stale: false,
            resolvable: true,
            loses_on_med: false,
        };
        let indexes = |paths: &Paths| paths.iter().map(|path| path.from.0).collect::<Vec<_>>();
        let mut paths = Paths::default();
        assert!(paths.is_empty());
        for from in 0..4 {
            paths.push(path(from));
            assert_eq!(indexes(&paths), (0..=from).collect::<Vec<_>>());
        }
        for (removed, left) in [(1, &[0, 2, 3][..]), (0, &[2, 3]), (3, &[2]), (2, &[])] {
            paths.retain_mut(|path| path.from.0 != removed);
            assert_eq!(indexes(&paths), left);
        }
        paths.push(path(7));
        assert!(matches!(paths, Paths::One(_)));
        paths.retain_mut(|path| {
            path.stale = true;
            true
        });
        assert!(paths[0].stale);
        paths.retain_mut(|_| false);
        assert_eq!((paths.len(), Arc::strong_count(&attrs)), (0, 1));
    }

    #[test]
    fn a_list_of_paths_is_no_larger_than_one_path() {
        assert_eq!(size_of::<Paths>(), size_of::<Path>());
    }
}
