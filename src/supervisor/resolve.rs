//! Which services a client means: names and patterns, and what may have been meant by one there is not.

use super::Supervisor;
use super::vocab::ServiceId;
use crate::ipc::control::{Request, Trouble};
use std::collections::BTreeSet;

/// A name with so many slips of the pen is still recognised, which can't make a greater difference
/// in length than this.
const NEAR: usize = 2;
const NEAR_BYTES: usize = NEAR * 4;

impl Supervisor {
    /// Names and patterns to services; each name must be one, each pattern may match none.
    pub fn resolve(&mut self, request: &Request) -> Result<Vec<ServiceId>, Trouble> {
        let trouble = |code: &str, message: String| Trouble {
            code: code.into(),
            message,
        };
        if request.names.is_empty() {
            return Ok(self.fleet.ids().collect());
        }
        let mut found = Vec::new();
        for name in &request.names {
            let name = name.trim_end_matches('/');
            if let Some(id) = self.fleet.by_name(name) {
                found.push(id);
                continue;
            }
            if !name.contains(['*', '?', '[']) {
                return Err(trouble("no-such-service", self.no_such(name)));
            }
            let pattern = glob::Pattern::new(name)
                .map_err(|error| trouble("bad-request", format!("pattern {name:?}: {error}")))?;
            let matching: Vec<ServiceId> = self
                .fleet
                .ids()
                .filter(|id| {
                    // A pattern without a slash means services, not their log services.
                    let name = self.fleet.name(*id).unwrap_or_default();
                    pattern.matches(name)
                        && (self.fleet.main_of(*id).is_none() || pattern.as_str().contains('/'))
                })
                .collect();
            if matching.is_empty() {
                return Err(trouble(
                    "no-such-service",
                    format!("no service matches {name:?}"),
                ));
            }
            found.extend(matching);
        }
        let mut seen = BTreeSet::new();
        found.retain(|id| seen.insert(*id));
        Ok(found)
    }

    fn no_such(&self, name: &str) -> String {
        if name.is_empty() {
            return "an empty name is no service's; 'outlast list' names those there are".into();
        }
        if self.names.is_let_go(name) {
            return format!(
                "{name} was told to leave (exit); it is taken up again in a few seconds, \
                 or at once by 'outlast reload'"
            );
        }
        if let Some(of) = self.names.twin_of(name) {
            return format!("{name} is the same directory as {of}; use that name");
        }
        let dir = self.settings.dir.display();
        let near = self
            .fleet
            .ids()
            .filter_map(|id| self.fleet.name(id))
            // A look at the lengths spares the comparison, which costs their product.
            .filter(|known| known.len().abs_diff(name.len()) <= NEAR_BYTES)
            .map(|known| (strsim::damerau_levenshtein(known, name), known))
            .min()
            .filter(|(distance, _)| *distance <= NEAR);
        match near {
            Some((_, near)) => format!("no service {name:?} in {dir}; did you mean {near}?"),
            None => format!("no service {name:?} in {dir}; 'outlast list' names those there are"),
        }
    }
}
