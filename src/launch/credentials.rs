//! The switch of user and groups. Fails closed: afterwards the process is asked who it is, and
//! whether it could become root again.
//!
//! Who is not root may still name itself: then nothing is changed, and nothing may differ.

use super::carry::{Broken, at};
use crate::os::step::Step;
use crate::os::users::{self, User};
use nix::errno::Errno;
use nix::unistd::{Gid, Uid, getgroups, getresgid, getresuid, setgid, setuid};
use nix::unistd::{setgroups, setresgid, setresuid};

/// Who the process shall be.
struct Wanted {
    /// None keeps the user.
    uid: Option<Uid>,
    gid: Gid,
    /// Sorted, `gid` among them.
    groups: Vec<Gid>,
    /// `groups` came from the user's own entry and was not asked for by name.
    implied: bool,
}

pub(super) fn take(
    user: Option<&User>,
    group: Option<&str>,
    groups: Option<&[String]>,
) -> Result<(), Broken> {
    let before = getresuid().map_err(at(Step::SetUid, "getresuid"))?;
    let wanted = look_up(user, group, groups)?;
    set_groups(&wanted)?;
    let name = group.map_or_else(|| wanted.gid.to_string(), str::to_owned);
    setresgid(wanted.gid, wanted.gid, wanted.gid).map_err(at(Step::SetGid, &name))?;
    if let Some(uid) = wanted.uid {
        let name = user.and_then(|user| user.name.clone());
        let name = name.unwrap_or_else(|| uid.to_string());
        setresuid(uid, uid, uid).map_err(at(Step::SetUid, &name))?;
    }
    verify(&wanted)?;
    let was_root = [before.real, before.effective, before.saved].contains(&Uid::from_raw(0));
    match wanted.uid {
        Some(uid) if was_root && !uid.is_root() => cannot_return(),
        Some(_) | None => Ok(()),
    }
}

/// Exactly these groups, the first of them the process's own, and this user: chpst's `-u`. Who may not
/// change its groups is refused here even when they are what it has, as runit refuses it.
pub fn switch(uid: u32, gids: &[u32]) -> Result<(), Broken> {
    let uid = Uid::from_raw(uid);
    let all: Vec<Gid> = gids.iter().copied().map(Gid::from_raw).collect();
    let Some(gid) = all.first().copied() else {
        return Err(at(Step::SetGroups, "")(Errno::EINVAL));
    };
    setgroups(&all).map_err(at(Step::SetGroups, &list(&all)))?;
    setgid(gid).map_err(at(Step::SetGid, &gid.to_string()))?;
    setuid(uid).map_err(at(Step::SetUid, &uid.to_string()))?;
    let mut groups = all;
    groups.sort_unstable_by_key(|gid| gid.as_raw());
    groups.dedup();
    verify(&Wanted {
        uid: Some(uid),
        gid,
        groups,
        implied: false,
    })
}

fn look_up(
    user: Option<&User>,
    group: Option<&str>,
    groups: Option<&[String]>,
) -> Result<Wanted, Broken> {
    let unknown = |error: users::Error| Broken {
        step: Step::Group,
        errno: error.errno(),
        detail: error.to_string(),
    };
    let gid = match (group, user) {
        (Some(name), _) => users::group(name).map_err(unknown)?,
        (None, Some(user)) => user.gid.ok_or_else(|| Broken {
            step: Step::Group,
            errno: Errno::ENOENT as i32,
            detail: format!("user {} has no entry, so group must be given", user.uid),
        })?,
        (None, None) => nix::unistd::getegid().as_raw(),
    };
    let mut all = vec![gid];
    match (groups, user) {
        (Some(names), _) => {
            for name in names {
                all.push(users::group(name).map_err(unknown)?);
            }
        }
        (None, Some(user)) => all = users::groups_of(user, gid).map_err(unknown)?,
        (None, None) => {}
    }
    all.sort_unstable();
    all.dedup();
    Ok(Wanted {
        uid: user.map(|user| Uid::from_raw(user.uid)),
        gid: Gid::from_raw(gid),
        groups: all.into_iter().map(Gid::from_raw).collect(),
        implied: groups.is_none(),
    })
}

fn set_groups(wanted: &Wanted) -> Result<(), Broken> {
    match setgroups(&wanted.groups) {
        Ok(()) => Ok(()),
        Err(Errno::EPERM) if stays_itself(wanted) => Ok(()),
        Err(errno) => Err(at(Step::SetGroups, &list(&wanted.groups))(errno)),
    }
}

/// Who may not change groups can start a service as itself all the same: with the groups that it
/// has when none were named, else with exactly the named ones.
fn stays_itself(wanted: &Wanted) -> bool {
    let same_user = wanted.uid.is_none_or(|uid| uid == Uid::effective());
    let same_group = wanted.gid == Gid::effective();
    same_user
        && same_group
        && !Uid::effective().is_root()
        && (wanted.implied || groups_now().is_ok_and(|groups| groups == wanted.groups))
}

/// The supplementary groups with the effective one; the kernel's list may or may not hold it.
fn groups_now() -> nix::Result<Vec<Gid>> {
    let mut groups = getgroups()?;
    groups.push(Gid::effective());
    groups.sort_unstable_by_key(|gid| gid.as_raw());
    groups.dedup();
    Ok(groups)
}

/// The kernel's word that all ids are what was wanted, whatever the calls have returned.
fn verify(wanted: &Wanted) -> Result<(), Broken> {
    let differs = |step, what: &str| Broken {
        step,
        errno: Errno::EPERM as i32,
        detail: format!("{what} is not what was asked for after the switch"),
    };
    let gids = getresgid().map_err(at(Step::SetGid, "getresgid"))?;
    if [gids.real, gids.effective, gids.saved] != [wanted.gid; 3] {
        return Err(differs(Step::SetGid, "the group"));
    }
    if let Some(uid) = wanted.uid {
        let uids = getresuid().map_err(at(Step::SetUid, "getresuid"))?;
        if [uids.real, uids.effective, uids.saved] != [uid; 3] {
            return Err(differs(Step::SetUid, "the user"));
        }
    }
    let groups = groups_now().map_err(at(Step::SetGroups, "getgroups"))?;
    if groups != wanted.groups && !stays_itself(wanted) {
        return Err(differs(Step::SetGroups, "the list of groups"));
    }
    Ok(())
}

/// Kept capabilities or a security module's rule could leave a way back; then nothing is started.
fn cannot_return() -> Result<(), Broken> {
    let root = Uid::from_raw(0);
    let keep = Uid::from_raw(u32::MAX);
    if setresuid(root, root, root).is_ok() || setresuid(keep, root, keep).is_ok() {
        return Err(Broken {
            step: Step::SetUid,
            errno: Errno::EPERM as i32,
            detail: "root could be regained after the switch".to_owned(),
        });
    }
    Ok(())
}

fn list(groups: &[Gid]) -> String {
    let groups: Vec<String> = groups.iter().map(Gid::to_string).collect();
    groups.join(" ")
}
