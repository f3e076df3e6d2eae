//! Changes in a service directory beside the definition: told only of a service that could not be
//! started, as what its definition names, an environment file or a program, may be there.

use super::News;
use super::hand::Hand;
use crate::supervisor::vocab::ServiceId;

impl Hand {
    /// A service is broken by something other than a passing shortage.
    pub(super) fn heed(&mut self, id: ServiceId) {
        let mut known = self.known.iter();
        let found = known.find(|(_, known)| known.id == id || known.log == Some(id));
        if let Some((name, _)) = found
            && self.watch.heed(name)
        {
            self.say(News::Stirred { id });
        }
    }

    /// The service's directory or its log service's: the machine knows which of them is broken.
    pub(super) fn stirred(&self, name: &str) {
        let Some(known) = self.known.get(name) else {
            return;
        };
        for id in [Some(known.id), known.log].into_iter().flatten() {
            self.say(News::Stirred { id });
        }
    }
}
