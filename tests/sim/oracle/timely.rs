//! What must come in time, looked at after every step: nothing wanted down lives on, nothing wanted up
//! stays away, no crash loop is faster than its rule.

use super::{CLEAR_BOUND, DOWN_BOUND, Oracle, SLACK, STARTS_IN_WINDOW, UP_BOUND, WINDOW};
use crate::sim::world::{ROLES, SECOND, World};
use outlast::machine::spec::{Kind, Rule, Scope};
use outlast::machine::view::{DownReason, Phase, View, Want};
use outlast::machine::vocab::{ServiceId, Tick};

impl Oracle {
    pub fn look(&mut self, world: &World) -> Result<(), String> {
        for id in world.fleet.ids().filter(|id| world.is_deep(*id)) {
            self.deep_at.insert(id, world.now);
        }
        if !world.is_idle() {
            return Ok(());
        }
        for (token, asked) in &self.tokens {
            if asked
                .deadline
                .is_some_and(|deadline| world.now > deadline.0 + SLACK)
            {
                return Err(format!(
                    "7: {token:?} {:?} was never answered",
                    asked.command
                ));
            }
        }
        let mut quiet = true;
        for id in world.fleet.ids() {
            let Some(view) = world.fleet.view(id) else {
                continue;
            };
            self.published_in_time(id, &view)?;
            self.down_in_time(world, id, &view)?;
            self.up_in_time(world, id, &view)?;
            self.cleared_in_time(world, id)?;
            self.bounded(world, id)?;
            self.ended_all_in_time(world, id)?;
            quiet &= match view.phase {
                Phase::Up => view.ready,
                Phase::Down => !view.leaving,
                Phase::Broken => view.next_start.is_none() && !view.leaving,
                Phase::Starting | Phase::Stopping | Phase::Clearing => false,
                Phase::Finish | Phase::Backoff => false,
            } && ROLES[1..]
                .iter()
                .all(|role| !world.live.contains_key(&(id, *role)));
        }
        if quiet && self.tokens.is_empty() && world.fleet.next_deadline().is_some() {
            return Err("wakes up although nothing is going on".to_owned());
        }
        Ok(())
    }

    fn published_in_time(&self, id: ServiceId, view: &View) -> Result<(), String> {
        match self.published.get(&id) {
            Some(published) if published != view => Err(format!(
                "6: {id:?} changed unpublished:\n {published:?}\n {view:?}"
            )),
            Some(_) => Ok(()),
            None if view.down == Some(DownReason::Undefined) => Ok(()),
            None => Err(format!("6: {id:?} was never published")),
        }
    }

    /// 3: nothing is left of what is wanted down, after its time-outs.
    fn down_in_time(&mut self, world: &World, id: ServiceId, view: &View) -> Result<(), String> {
        let forever = world.spec_of(id).is_none_or(|spec| {
            spec.stop.timeout.is_none()
                || (spec.kind == Kind::Log && spec.stop.scope == Scope::Process)
        });
        let wanted_down = matches!(view.want, Want::Down | Want::Exit);
        // A log service is needed until its service is gone.
        if !wanted_down || forever || world.is_clean(id) || world.is_deep(id) {
            self.down_since.remove(&id);
            return Ok(());
        }
        let since = *self.down_since.entry(id).or_insert(world.now);
        if world.now - since > DOWN_BOUND {
            return Err(format!(
                "3: {id:?} is wanted down and something lives: {view:?}"
            ));
        }
        Ok(())
    }

    /// 3: what a run left behind is ended, whatever is wanted.
    fn cleared_in_time(&mut self, world: &World, id: ServiceId) -> Result<(), String> {
        let busy = ROLES
            .iter()
            .any(|role| world.live.contains_key(&(id, *role)));
        if busy || world.is_clean(id) || world.is_deep(id) {
            self.left_since.remove(&id);
            return Ok(());
        }
        let since = *self.left_since.entry(id).or_insert(world.now);
        if world.now - since > CLEAR_BOUND {
            return Err(format!(
                "3: {id:?} leftovers stay: {:?}",
                world.fleet.view(id)
            ));
        }
        Ok(())
    }

    /// 2: what is wanted up and not in anybody's way is up within its back-off.
    fn up_in_time(&mut self, world: &World, id: ServiceId, view: &View) -> Result<(), String> {
        let hindered = view.want != Want::Up || !world.is_startable(id) || !world.is_clean(id);
        let disturbed = self
            .accounts
            .get(&id)
            .map_or(0, |account| account.disturbed);
        if hindered {
            self.idle_since.remove(&id);
            return Ok(());
        }
        let since = (*self.idle_since.entry(id).or_insert(world.now)).max(disturbed);
        // Broken for a reason outside its directory that is gone by now: the slowest retry.
        if world.now.saturating_sub(since) > UP_BOUND + 60 * SECOND {
            return Err(format!(
                "2: {id:?} is wanted up and does not come: {view:?}"
            ));
        }
        Ok(())
    }

    /// 5: a crash loop is bounded by its rule.
    fn bounded(&mut self, world: &World, id: ServiceId) -> Result<(), String> {
        let Some(spec) = world.spec_of(id) else {
            return Ok(());
        };
        let Some(account) = self.accounts.get_mut(&id) else {
            return Ok(());
        };
        let horizon = world.now.saturating_sub(WINDOW).max(account.disturbed);
        account.starts.retain(|at| *at >= horizon);
        match spec.restart.rule {
            Rule::BackOff { .. } => {
                if account.starts.len() > STARTS_IN_WINDOW {
                    return Err(format!("5: {id:?} started at {:?}", account.starts));
                }
            }
            Rule::Runit => {
                let close = account
                    .starts
                    .windows(2)
                    .find(|two| two[1] - two[0] < SECOND);
                if let Some(two) = close {
                    return Err(format!("5: {id:?} started twice within a second: {two:?}"));
                }
            }
        }
        Ok(())
    }

    /// 7, at the very end: nobody was forgotten.
    pub fn at_the_end(&self, deadline: Option<Tick>) -> Result<(), String> {
        if let Some((token, asked)) = self.tokens.iter().next() {
            return Err(format!(
                "7: {token:?} {:?} was never answered",
                asked.command
            ));
        }
        if deadline.is_some() {
            return Err("a clock runs for nobody".to_owned());
        }
        Ok(())
    }
}
