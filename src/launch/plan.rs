//! What a process shall become, as data: an ordered list of steps and the program at their end.
//!
//! Made by the supervisor from a definition, or by chpst from its options; carried out by
//! `carry`, in order, stopping at the first step that fails. Travels as JSON in a memfd.

use crate::machine::spec::{Identity, Spec, Start};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// Largest plan in bytes; a service.toml of its own largest size makes a smaller one.
pub const PLAN_BYTES_MAX: usize = 1024 * 1024;

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Plan {
    pub steps: Vec<Do>,
    /// argv[0] when it differs from the program.
    pub argv0: Option<String>,
    /// Program and arguments. A program without a slash is searched on the new PATH.
    pub argv: Vec<String>,
}

/// One step. The order within the plan is the order of effects.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Do {
    NewSession,
    /// Nothing is left of the environment but the usual PATH.
    ClearEnv,
    /// HOME, USER, LOGNAME and SHELL of this user.
    UserEnv(String),
    SetEnv(BTreeMap<String, String>),
    /// NAME=VALUE lines; `#` comments, blank lines and one pair of quotes around a value allowed.
    EnvFile(String),
    /// Write that into a file of this cgroup.
    SetCgroup {
        path: String,
        value: String,
    },
    /// Write our pid into this cgroup's `cgroup.procs`.
    JoinCgroup(String),
    Umask(u32),
    /// setrlimit(2) by name; None is unlimited.
    Limit {
        resource: String,
        soft: Option<u64>,
        hard: Option<u64>,
    },
    /// Give the output pipe to the user, so that /dev/stderr can be opened again after the switch.
    OwnOutput {
        user: String,
    },
    /// setgroups, setgid, setuid. `groups: None` is initgroups(3).
    Credentials {
        user: Option<String>,
        group: Option<String>,
        groups: Option<Vec<String>>,
    },
    /// chdir; after the switch of user, so that it is that user's permission that counts.
    Directory(String),
}

/// The plan of a start of `run`; None when the keeper can exec `./run` itself.
///
/// `service_dir` is absolute. It is the working directory that the keeper has already entered; it
/// is named only for a run script that shall find itself elsewhere.
pub fn plan(spec: &Spec, cgroup: Option<&str>, service_dir: &str) -> Option<Plan> {
    if spec.identity.is_plain() && spec.start == Start::Script && cgroup.is_none() {
        return None;
    }
    let argv = match (&spec.start, &spec.identity.directory) {
        (Start::Exec(argv), _) => argv.clone(),
        (Start::Script, None) => vec!["./run".to_owned()],
        (Start::Script, Some(_)) => vec![format!("{}/run", service_dir.trim_end_matches('/'))],
    };
    Some(Plan {
        steps: steps(&spec.identity, cgroup),
        argv0: None,
        argv,
    })
}

/// Environment first, since the files may be readable for root only; limits before the switch,
/// since only root may raise them; the directory after it, since the user must be able to enter.
fn steps(identity: &Identity, cgroup: Option<&str>) -> Vec<Do> {
    let mut steps = Vec::new();
    if identity.clear_env {
        steps.push(Do::ClearEnv);
    }
    if let Some(user) = &identity.user {
        steps.push(Do::UserEnv(user.clone()));
    }
    if !identity.env.is_empty() {
        steps.push(Do::SetEnv(identity.env.clone()));
    }
    steps.extend(identity.env_files.iter().cloned().map(Do::EnvFile));
    if let Some(cgroup) = cgroup {
        let set = |(file, value): (&String, &String)| Do::SetCgroup {
            path: format!("{cgroup}/{file}"),
            value: value.clone(),
        };
        steps.extend(identity.cgroup.iter().map(set));
        steps.push(Do::JoinCgroup(cgroup.to_owned()));
    }
    steps.extend(identity.limits.iter().map(|limit| Do::Limit {
        resource: limit.resource.clone(),
        soft: limit.soft,
        hard: limit.hard,
    }));
    if let Some(umask) = identity.umask {
        steps.push(Do::Umask(umask));
    }
    if let Some(user) = &identity.user {
        steps.push(Do::OwnOutput { user: user.clone() });
    }
    if identity.user.is_some() || identity.group.is_some() || identity.groups.is_some() {
        steps.push(Do::Credentials {
            user: identity.user.clone(),
            group: identity.group.clone(),
            groups: identity.groups.clone(),
        });
    }
    if let Some(directory) = &identity.directory {
        steps.push(Do::Directory(directory.clone()));
    }
    steps
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::machine::spec::Limit;

    #[test]
    fn a_plain_run_script_needs_no_plan_unless_it_gets_a_cgroup() {
        let spec = Spec::default();
        assert_eq!(plan(&spec, None, "/s/web"), None);
        let plan = plan(&spec, Some("/sys/fs/cgroup/x"), "/s/web").expect("plan");
        assert_eq!(plan.argv, ["./run"]);
        assert_eq!(plan.steps, [Do::JoinCgroup("/sys/fs/cgroup/x".into())]);
    }

    #[test]
    fn a_run_script_with_another_directory_is_called_by_its_absolute_path() {
        let mut spec = Spec::default();
        spec.identity.directory = Some("/srv".into());
        let plan = plan(&spec, None, "/s/web").expect("plan");
        assert_eq!(plan.argv, ["/s/web/run"]);
    }

    #[test]
    fn steps_come_in_the_order_in_which_each_is_still_allowed() {
        let mut spec = Spec {
            start: Start::Exec(vec!["httpd".into(), "-f".into()]),
            ..Spec::default()
        };
        let identity = &mut spec.identity;
        identity.user = Some("www".into());
        identity.clear_env = true;
        identity.env.insert("A".into(), "1".into());
        identity.env_files.push("conf".into());
        identity.umask = Some(0o27);
        identity.directory = Some("/srv".into());
        identity.limits.push(Limit {
            resource: "nofile".into(),
            soft: Some(10),
            hard: None,
        });
        let plan = plan(&spec, Some("/cg"), "/s/web").expect("plan");
        let order: Vec<_> = plan
            .steps
            .iter()
            .map(|step| match step {
                Do::NewSession => "session",
                Do::ClearEnv => "clear-env",
                Do::UserEnv(_) => "user-env",
                Do::SetEnv(_) => "env",
                Do::EnvFile(_) => "env-file",
                Do::SetCgroup { .. } => "cgroup-setting",
                Do::JoinCgroup(_) => "cgroup",
                Do::Umask(_) => "umask",
                Do::Limit { .. } => "limit",
                Do::OwnOutput { .. } => "output",
                Do::Credentials { .. } => "credentials",
                Do::Directory(_) => "directory",
            })
            .collect();
        let wanted =
            "clear-env user-env env env-file cgroup limit umask output credentials directory";
        assert_eq!(order.join(" "), wanted);
        assert_eq!(plan.argv, ["httpd", "-f"]);
        let json = serde_json::to_vec(&plan).expect("json");
        assert_eq!(serde_json::from_slice::<Plan>(&json).expect("back"), plan);
    }
}
