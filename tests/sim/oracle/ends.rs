//! Ends that are final: by the policy for one service (5), and with an essential one for all (10).

use super::{DOWN_BOUND, Oracle};
use crate::sim::world::{ROLES, World};
use outlast::machine::spec::Policy;
use outlast::machine::view::Want;
use outlast::machine::vocab::{Exit, Role, ServiceId};
use std::collections::BTreeMap;

/// What a shell shows for a command that is not there, which is how starts fail in this world.
const NOT_FOUND: u8 = 127;

/// The oracle's book about them.
#[derive(Default)]
pub(super) struct Ends {
    /// How each run ended last, as a shell would show it.
    codes: BTreeMap<ServiceId, u8>,
    /// What somebody has asked for.
    wants: BTreeMap<ServiceId, Want>,
    /// Since when an end that is to end everything has been there to be seen.
    since: BTreeMap<ServiceId, u64>,
    all: bool,
}

impl Ends {
    pub(super) fn ended(&mut self, id: ServiceId, exit: Exit) {
        self.codes.insert(id, exit.shell_code());
    }

    pub(super) fn never_started(&mut self, id: ServiceId) {
        self.codes.insert(id, NOT_FOUND);
    }

    pub(super) fn wanted(&mut self, id: ServiceId, want: Want) {
        self.wants.insert(id, want);
    }

    /// 10: when everything ends, nothing begins, but for the reader of a service that has not
    /// come to its end: its last words have to go somewhere.
    pub(super) fn allow_a_run(&self, id: ServiceId, has_main: bool) -> Result<(), String> {
        match self.all && !has_main {
            true => Err(format!("10: {id:?} is started after all was to end")),
            false => Ok(()),
        }
    }
}

impl Oracle {
    /// 5: an end that is final by the policy is followed by no start that nobody asked for.
    pub(super) fn policy_allows(&self, world: &World, id: ServiceId) -> Result<(), String> {
        match self.final_exit(world, id) {
            Some(exit) => Err(format!(
                "5: {id:?} is started after {exit} in spite of its policy"
            )),
            None => Ok(()),
        }
    }

    /// The end of the last run, when the policy says that there is no other and nobody has
    /// interfered.
    fn final_exit(&self, world: &World, id: ServiceId) -> Option<Exit> {
        let (spec, account) = (world.spec_of(id)?, self.accounts.get(&id)?);
        account.final_exit.filter(|exit| match spec.restart.policy {
            Policy::Always => false,
            Policy::OnFailure => exit.success(),
            Policy::Never => true,
        })
    }

    /// 10: everything ends once, with an essential service that is gone and that nobody wanted
    /// gone, and with its code.
    pub fn ended_all(
        &mut self,
        world: &World,
        id: ServiceId,
        code: u8,
        again: bool,
    ) -> Result<(), String> {
        let essential = world.spec_of(id).is_none_or(|spec| spec.essential);
        let lives = [Role::Run, Role::Finish]
            .iter()
            .any(|role| world.live.contains_key(&(id, *role)));
        let wanted = self.ends.wants.get(&id);
        let asked = matches!(wanted, Some(Want::Down | Want::Exit));
        let known = self.ends.codes.get(&id) == Some(&code);
        if again || self.ends.all || !essential || lives || asked || !known {
            return Err(format!(
                "10: {id:?} ends all with {code}: again {again}, essential {essential}, lives \
                 {lives}, wanted {wanted:?}, ended with {:?}",
                self.ends.codes.get(&id)
            ));
        }
        self.ends.all = true;
        Ok(())
    }

    pub fn all_has_ended(&self) -> bool {
        self.ends.all
    }

    /// 10: and it does so in time.
    pub(super) fn ended_all_in_time(&mut self, world: &World, id: ServiceId) -> Result<(), String> {
        let essential = world.spec_of(id).is_some_and(|spec| spec.essential);
        let gone = !ROLES
            .iter()
            .any(|role| world.live.contains_key(&(id, *role)));
        let over = essential && gone && !world.is_deep(id) && self.final_exit(world, id).is_some();
        if !over || self.ends.all || world.is_ending() {
            self.ends.since.remove(&id);
            return Ok(());
        }
        let since = *self.ends.since.entry(id).or_insert(world.now);
        if world.now - since > DOWN_BOUND {
            return Err(format!(
                "10: {id:?} is essential, has ended for good, and all goes on"
            ));
        }
        Ok(())
    }
}
