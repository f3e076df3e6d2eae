//! The answer to `why`: what happened to a service, step by step, in sentences.

use super::background::ended_well_at_once;
use super::place::{Hindrance, Place, real_path};
use super::vocab::{Leftover, ServiceId};
use super::{Supervisor, show, stuck, words};
use crate::ipc::control::{Usage, Why};
use crate::machine::view::{DownReason, Phase, View, Want};

/// The answer, and what it advises if it turns out that the last run wrote nothing.
pub struct Told {
    pub why: Why,
    pub if_silent: Option<String>,
}

impl Supervisor {
    /// Without the log lines, which the scribe adds.
    pub fn why(&self, id: ServiceId, living_on: &[Leftover]) -> Option<Told> {
        let view = self.fleet.view(id)?;
        let place = self.places.get(&id)?;
        let usage = place.usage.as_deref().map(|usage| Usage {
            user_seconds: std::time::Duration::from_micros(usage.user_us).as_secs_f64(),
            system_seconds: std::time::Duration::from_micros(usage.system_us).as_secs_f64(),
            peak_kib: usage.peak_kib,
        });
        let directory = real_path(&place.dir);
        let advise = |lines| advice(&view, place, living_on, lines);
        // Its lines are the scribe's to show, or its log service has them.
        let lines = match self.fleet.log_of(id) {
            Some(_) => Lines::Elsewhere,
            None => Lines::Shown,
        };
        let why = Why {
            story: self.story(id, &view, place, living_on),
            advice: advise(lines),
            usage,
            log: Vec::new(),
            log_file: None,
            log_unfinished: false,
            directory,
        };
        let if_silent = match lines {
            Lines::Shown => advise(Lines::None),
            Lines::Elsewhere | Lines::None => None,
        };
        Some(Told { why, if_silent })
    }

    fn story(
        &self,
        id: ServiceId,
        view: &View,
        place: &Place,
        living_on: &[Leftover],
    ) -> Vec<String> {
        let mut story = Vec::new();
        let now = self.now();
        if let Some(last) = view.last_exit {
            let when = words::duration(now.since(last.at));
            let ran = words::duration(last.ran);
            let how = last.exit.map_or_else(
                || "how nobody can know, its parent (the keeper) had been killed".to_owned(),
                words::exit,
            );
            let asked = if last.asked {
                ", as it was told to"
            } else {
                ", by itself"
            };
            story.push(format!(
                "the last run (pid {}) lasted {ran} and ended {when} ago{asked}: {how}",
                last.pid.0
            ));
        }
        if view.leftovers.is_empty() && !view.swept.is_empty() {
            story.push(format!(
                "it left processes behind, which were ended before anything else: {}",
                words::names(&view.swept)
            ));
        }
        if !living_on.is_empty() {
            story.push(format!(
                "started while a run of it lived, outside its scope, and still alive: {}",
                words::names(living_on)
            ));
        }
        match place.oom {
            Some(true) => story
                .push("the kernel ended it because its cgroup was out of memory (OOM kill)".into()),
            None if place.oom_near => story.push(
                "the kernel's out-of-memory killer was at work on this machine at that time; \
                 without a memory cgroup it can't be said whether it hit this service"
                    .into(),
            ),
            Some(false) | None => {}
        }
        if let Some(reason) = &view.invalid {
            let text = self.desk.findings.get(&id).unwrap_or(reason);
            story.push(match place.quarantined || place.hindrance.is_some() {
                true => text.to_string(),
                false => format!("its definition can't be used: {text}"),
            });
        }
        if view.failure.is_some()
            && let Some(found) = &place.words
        {
            story.push(found.message.clone());
        }
        if view.start_failures > 1 {
            story.push(format!(
                "{} starts in a row have failed",
                view.start_failures
            ));
        }
        story.extend(phase(view, place, self.silent(id), now));
        if view.unkillable {
            story.push(stuck::of(view).words());
        } else if !view.leftovers.is_empty() {
            story.push(format!(
                "of ended runs still there: {}",
                words::names(&view.leftovers)
            ));
        }
        if view.control_overdue {
            story.push("a control script hung and was killed".into());
        }
        let troubles = [
            &place.log_trouble,
            &place.log_echoed,
            &place.supervise_trouble,
        ];
        story.extend(troubles.into_iter().flatten().map(|text| text.to_string()));
        story.extend(place.warnings.iter().cloned());
        story
    }
}

/// Where the lines of the last run are.
#[derive(Clone, Copy)]
enum Lines {
    /// In the answer.
    Shown,
    /// In the hands of its log service.
    Elsewhere,
    /// Nowhere: it wrote nothing, as far as is known.
    None,
}

fn advice(view: &View, place: &Place, living_on: &[Leftover], lines: Lines) -> Option<String> {
    let name = &place.name;
    if place.quarantined {
        let file = place.dir.join("service.toml");
        return Some(match place.suspicion {
            Some(suspicion) if suspicion.alone > 0 => format!(
                "change {}; it is read as soon as it changes",
                file.display()
            ),
            Some(_) | None => "nothing: it is read by itself once the supervisor has been well \
                               for 10 s; 'outlast reload' reads it now"
                .to_owned(),
        });
    }
    if let Some(hindrance) = place.hindrance.filter(|_| view.invalid.is_some()) {
        return Some(around(hindrance, place));
    }
    if view.invalid.is_some() {
        return Some(format!(
            "mend {}; it is read again as soon as it changes",
            place.dir.join("service.toml").display()
        ));
    }
    if view.unkillable {
        return Some(stuck::of(view).advice());
    }
    if view.failure.is_some() {
        let advice = place.words.as_ref().map(|words| words.advice.clone());
        return advice.filter(|advice| !advice.is_empty());
    }
    match view.phase {
        Phase::Backoff if ended_well_at_once(view) || !living_on.is_empty() => {
            Some(to_the_foreground(view, place, living_on))
        }
        Phase::Backoff => {
            let look = match lines {
                Lines::Shown => "look at its last lines".to_owned(),
                Lines::Elsewhere => format!("look at what {name}/log has written of it"),
                Lines::None => format!(
                    "there are no lines of it to look at, so run its program by hand in {} to see \
                     why it ends",
                    place.dir.display()
                ),
            };
            Some(format!(
                "{look}; 'outlast restart {name}' tries now, 'outlast stop {name}' gives up"
            ))
        }
        Phase::Down if !living_on.is_empty() => Some(format!(
            "if what lives on is in the way, end it: kill {}; for later runs: scope = \"tree\" under \
             [stop] in {}, or keep the program in the foreground",
            pids(living_on),
            place.dir.join("service.toml").display()
        )),
        Phase::Down => match view.down {
            Some(DownReason::NormallyDown) => Some(format!(
                "'outlast start {name}' starts it; remove {} to have it started always",
                place.dir.join("down").display()
            )),
            Some(DownReason::Asked | DownReason::Done | DownReason::Policy) => {
                Some(format!("'outlast start {name}' starts it"))
            }
            Some(DownReason::Undefined) | None => None,
        },
        Phase::Up if view.paused => Some(format!("'outlast cont {name}' lets it go on")),
        // Such as one that tries for a while to get the port that a daemon has.
        Phase::Up if !living_on.is_empty() && view.restarts > 0 => {
            Some(to_the_foreground(view, place, living_on))
        }
        Phase::Up if !view.ready => Some(format!(
            "run {} to see why it does not pass",
            place.dir.join("check").display()
        )),
        Phase::Starting
        | Phase::Up
        | Phase::Stopping
        | Phase::Clearing
        | Phase::Finish
        | Phase::Broken => None,
    }
}

fn pids(leftovers: &[Leftover]) -> String {
    let pids: Vec<String> = leftovers.iter().map(|it| it.pid.0.to_string()).collect();
    pids.join(" ")
}

/// What to do where nothing is to be mended in its definition.
fn around(hindrance: Hindrance, place: &Place) -> String {
    match hindrance {
        Hindrance::Held => format!(
            "end the other supervisor, which 'fuser {}' names, or take the directory away from it; \
             it is tried again by itself every few seconds",
            place.dir.join("supervise/lock").display()
        ),
        Hindrance::Short => {
            "allow more open files where outlast is started, and start it again; or \
                             remove services that are not needed, then: outlast reload"
                .to_owned()
        }
        Hindrance::Closed => format!(
            "look at {}; it is tried again when it changes, or by: outlast reload",
            place.dir.display()
        ),
    }
}

/// For a run that has ended although all was well, or whose successor meets what it left behind.
fn to_the_foreground(view: &View, place: &Place, living_on: &[Leftover]) -> String {
    let (name, well) = (&place.name, ended_well_at_once(view));
    let flag = "the flag that keeps it in the foreground, often -F, -D or --nodaemon";
    let mut text = match well {
        true => format!(
            "it ended with success right after its start: if it puts itself into the background, \
             give it {flag}"
        ),
        false => format!(
            "what an earlier run left in the background may be in its way: give the program {flag}"
        ),
    };
    if !living_on.is_empty() {
        text.push_str(&format!(
            ", and end what lives on: kill {}",
            pids(living_on)
        ));
    }
    if well {
        text.push_str(&format!(
            "; if it is to run once: policy = \"on-failure\" under [restart] in {}, or \
             'outlast once {name}'",
            place.dir.join("service.toml").display()
        ));
    }
    text
}

fn phase(view: &View, place: &Place, silent: Option<String>, now: super::Tick) -> Vec<String> {
    let since = words::duration(now.since(view.since));
    let text = match view.phase {
        Phase::Down => {
            let why = match view.down {
                Some(DownReason::Undefined) => "its directory has not been read yet",
                Some(DownReason::NormallyDown) => "there is a file 'down', so it is not started",
                Some(DownReason::Asked) => "somebody stopped it",
                Some(DownReason::Done) => "it was to run once, and has",
                Some(DownReason::Policy) => "its restart policy leaves it down after such an end",
                None => "nothing wants it up",
            };
            format!("down for {since}: {why}")
        }
        Phase::Starting => format!("being started for {since}"),
        Phase::Up if view.paused => format!("up for {since}, paused (SIGSTOP)"),
        Phase::Up if !view.ready => format!("up for {since}, but {}", show::unready(silent)),
        Phase::Up => match silent {
            Some(silent) => format!("up for {since}; {silent}"),
            None => format!("up for {since}"),
        },
        Phase::Stopping => format!("told to stop {since} ago, has not ended yet"),
        Phase::Clearing => format!("ending what the last run left behind for {since}"),
        Phase::Finish => format!("./finish has been running for {since}"),
        Phase::Backoff => {
            let next = view.next_start.map(|at| words::duration(at.since(now)));
            format!(
                "{} ended too soon in a row; the next start is in {}",
                if view.failures == 1 {
                    "one run".into()
                } else {
                    format!("{} runs", view.failures)
                },
                next.unwrap_or_else(|| "a moment".into())
            )
        }
        Phase::Broken => match view.next_start {
            Some(at) => format!(
                "broken: the next try is in {}, or when its directory changes",
                words::duration(at.since(now))
            ),
            None if place.quarantined => "not started before its definition has been read".into(),
            None if place.hindrance == Some(Hindrance::Held) => {
                "broken: it is tried again every few seconds".into()
            }
            None if place.hindrance == Some(Hindrance::Short) => {
                "broken: it is tried again when another service has gone".into()
            }
            None => "broken: it is tried again when its directory changes".into(),
        },
    };
    let mut story = vec![text];
    if view.got_term && view.phase == Phase::Up {
        story.push(match view.paused {
            true => "it was told to end, which it can't while it is paused".into(),
            false => "it was told to end, and has not done so".to_owned(),
        });
    }
    if view.restarts > 0 {
        let times = match view.restarts {
            1 => "once".to_owned(),
            2 => "twice".to_owned(),
            more => format!("{more} times"),
        };
        story.push(format!(
            "restarted {times} since it was last asked to start"
        ));
    }
    match view.want {
        Want::Once => story.push("it is to run once and not be started again".into()),
        Want::Exit => story.push("it is leaving supervision".into()),
        Want::Up | Want::Down => {}
    }
    story
}
