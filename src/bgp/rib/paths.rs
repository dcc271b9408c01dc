//! The paths to a network: one as a rule, which needs no list. A table holds very many of these, so
//! they are as small as a path.

use std::{ops, slice};

use crate::bgp::choice::Path;

/// None, one or several paths. What is not here is a slice's.
#[derive(Debug, Default)]
#[allow(clippy::box_collection)] // a list is three words, and a place for it beside a path but one
pub enum Paths {
    /// None.
    #[default]
    None,
    /// One.
    One(Path),
    /// Several, or the one that is left of them.
    Many(Box<Vec<Path>>),
}

impl Paths {
    /// Puts one in as the last.
    pub fn push(&mut self, path: Path) {
        *self = match std::mem::take(self) {
            Paths::None => Paths::One(path),
            Paths::One(first) => Paths::Many(Box::new(vec![first, path])),
            Paths::Many(mut all) => {
                all.push(path);
                Paths::Many(all)
            }
        };
    }

    /// Takes out what is not to be kept; each may be changed meanwhile.
    pub fn retain_mut(&mut self, mut keep: impl FnMut(&mut Path) -> bool) {
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
    use crate::bgp::choice::Said;

    #[test]
    fn paths_are_kept_in_their_order_however_many_there_are() {
        let said = Arc::new(Said::nothing());
        let path = |from| {
            let said = Arc::clone(&said);
            Path { said, from, stale: false, usable: true, beaten: false }
        };
        let froms = |paths: &Paths| paths.iter().map(|path| path.from).collect::<Vec<_>>();
        let mut paths = Paths::default();
        assert!(paths.is_empty());
        for from in 0..4 {
            paths.push(path(from));
            assert_eq!(froms(&paths), (0..=from).collect::<Vec<_>>());
        }
        for (gone, left) in [(1, &[0, 2, 3][..]), (0, &[2, 3]), (3, &[2]), (2, &[])] {
            paths.retain_mut(|path| path.from != gone);
            assert_eq!(froms(&paths), left);
        }
        paths.push(path(7));
        assert!(matches!(paths, Paths::One(_)));
        paths.retain_mut(|path| {
            path.stale = true;
            true
        });
        assert!(paths[0].stale);
        paths.retain_mut(|_| false);
        assert_eq!((paths.len(), Arc::strong_count(&said)), (0, 1));
    }

    #[test]
    fn they_are_as_small_as_a_path() {
        assert_eq!(size_of::<Paths>(), size_of::<Path>());
    }
}
