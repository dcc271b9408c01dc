//! The paths to a network: one as a rule, which needs no list. A table holds very many of these, so
//! they are as small as a path.

use std::{ops, slice};

use crate::bgp::choice::Path;

/// None, one or several paths. What is not here is a slice's.
#[derive(Debug)]
#[allow(clippy::box_collection)] // a list is three words, and a place for it beside a path but one
pub enum Paths {
    /// One.
    One(Path),
    /// Any other number, or one that is left of several.
    Many(Box<Vec<Path>>),
}

impl Default for Paths {
    fn default() -> Paths {
        Paths::Many(Box::default())
    }
}

impl Paths {
    /// Puts one in as the last.
    pub fn push(&mut self, path: Path) {
        match self {
            Paths::Many(all) if all.is_empty() => *self = Paths::One(path),
            Paths::Many(all) => all.push(path),
            Paths::One(_) => {
                let Paths::One(first) = std::mem::take(self) else { return };
                *self = Paths::Many(Box::new(vec![first, path]));
            }
        }
    }

    /// Takes out what is not to be kept; each may be changed meanwhile.
    pub fn retain_mut(&mut self, mut keep: impl FnMut(&mut Path) -> bool) {
        match self {
            Paths::Many(all) => all.retain_mut(keep),
            Paths::One(path) => {
                if !keep(path) {
                    *self = Paths::default();
                }
            }
        }
    }
}

impl ops::Deref for Paths {
    type Target = [Path];

    fn deref(&self) -> &[Path] {
        match self {
            Paths::One(path) => slice::from_ref(path),
            Paths::Many(all) => all,
        }
    }
}

impl ops::DerefMut for Paths {
    fn deref_mut(&mut self) -> &mut [Path] {
        match self {
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
