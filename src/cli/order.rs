//! One request to the supervisor from start to end: ask, print, tell by the exit code.
//!
//! The same code serves clap's way and the short way around it.

use super::client::{Broken, Client};
use super::exit::Exit;
use super::screen::{Look, Screen};
use super::verbs::{Names, Row, named};
use super::words::{count, push, safe};
use super::{answer, table, why};
use crate::ipc::control::{Request, Response, Service, State, VERSION, Verb, Want};
use crate::os::paths;
use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// A name that differs by more than half of its letters isn't meant.
const LIKENESS_MIN: f64 = 0.6;
/// Supervisors that may end under one command before it is given up.
const ATTEMPTS_MAX: u32 = 5;
/// The trouble of a `why` that asks for the log lines of too many at once, and how many are not.
const TOO_MANY: &str = "too-many";
const PART: usize = 64;

#[derive(Clone)]
pub struct Order {
    pub row: &'static Row,
    pub names: Vec<String>,
    pub wait: bool,
    pub timeout: Option<Duration>,
    /// Log lines with `why`.
    pub lines: Option<u32>,
    pub json: bool,
    pub socket: Option<PathBuf>,
}

impl Order {
    pub fn new(row: &'static Row, names: Vec<String>) -> Order {
        Order {
            row,
            names,
            wait: true,
            timeout: None,
            lines: None,
            json: false,
            socket: None,
        }
    }

    /// What is wrong with the number of names.
    fn mistake(&self) -> Option<String> {
        let name = self.row.name;
        match self.row.names {
            Names::Required if self.names.is_empty() => Some(format!(
                "{name}: of which service? Name one or more ('outlast list' shows all), \
                 or every one of them with '*'"
            )),
            Names::None if !self.names.is_empty() => Some(format!(
                "{name} ends the supervisor and takes no names; \
                 to stop a service: outlast stop {}",
                safe(&self.names.join(" "))
            )),
            Names::Required | Names::Optional | Names::None => None,
        }
    }

    fn request(&self) -> Request {
        Request {
            v: VERSION,
            id: 0,
            verb: self.row.verb,
            names: self.names.clone(),
            wait: self.wait,
            timeout_ms: self
                .timeout
                .map(|wait| u64::try_from(wait.as_millis()).unwrap_or(u64::MAX)),
            lines: self.lines,
            binary: None,
        }
    }

    /// Only to look: asking again does no harm.
    fn only_looks(&self) -> bool {
        match self.row.verb {
            Verb::Status | Verb::List | Verb::Why | Verb::Check => true,
            Verb::Start
            | Verb::Stop
            | Verb::Restart
            | Verb::Once
            | Verb::Pause
            | Verb::Cont
            | Verb::Hup
            | Verb::Alarm
            | Verb::Interrupt
            | Verb::Quit
            | Verb::Usr1
            | Verb::Usr2
            | Verb::Term
            | Verb::Kill
            | Verb::Reload
            | Verb::Shutdown
            | Verb::Upgrade
            | Verb::StepDown => false,
        }
    }

    /// To ask for it twice is to ask for it once: so it may be asked again of the successor of a
    /// supervisor that took the answer with it.
    fn may_be_repeated(&self) -> bool {
        match self.row.verb {
            Verb::Status | Verb::List | Verb::Why | Verb::Check => true,
            Verb::Start | Verb::Stop | Verb::Pause | Verb::Cont | Verb::Shutdown => true,
            Verb::Reload => self.names.is_empty(),
            Verb::Restart
            | Verb::Once
            | Verb::Hup
            | Verb::Alarm
            | Verb::Interrupt
            | Verb::Quit
            | Verb::Usr1
            | Verb::Usr2
            | Verb::Term
            | Verb::Kill
            | Verb::Upgrade
            | Verb::StepDown => false,
        }
    }
}

pub fn carry_out(order: &Order, screen: &mut Screen) -> io::Result<Exit> {
    if let Some(mistake) = order.mistake() {
        screen.complain(mistake)?;
        return Ok(Exit::Usage);
    }
    let path = match paths::control_socket(order.socket.as_deref()) {
        Ok(path) => path,
        Err(refusal) => {
            screen.complain(refusal)?;
            return Ok(Exit::NoSupervisor);
        }
    };
    match ask(order, &path) {
        Ok((mut client, response)) => {
            let exit = print(order, &response, client.pid(), screen)?;
            let told = response.error.as_ref();
            let told = told.is_some_and(|trouble| trouble.message.contains("did you mean"));
            if exit == Exit::NoSuchService && !told {
                suggest(order, &mut client, screen)?;
            }
            Ok(exit)
        }
        Err(broken) => {
            screen.complain(&broken)?;
            if let Broken::NoAnswer { gone, .. } = broken {
                let shown = gone && !order.only_looks() && show_state(order, &path, screen)?;
                if !shown {
                    screen.complain(what_is_unknown(order))?;
                }
            }
            Ok(broken.exit())
        }
    }
}

/// A supervisor that ends is replaced at once, and its successor finds what was wanted; clients
/// queue until it answers.
fn ask(order: &Order, path: &Path) -> Result<(Client, Response), Broken> {
    let mut attempts = 0;
    loop {
        attempts += 1;
        let answered = Client::connect(path).and_then(|mut client| {
            let mut response = client.ask(order.request())?;
            let trouble = response.error.as_ref();
            if trouble.is_some_and(|trouble| trouble.code == TOO_MANY) {
                response = ask_in_parts(order, &mut client)?;
            }
            Ok((client, response))
        });
        match answered {
            Err(Broken::NoAnswer { gone: true, .. })
                if order.may_be_repeated() && attempts < ATTEMPTS_MAX => {}
            other => return other,
        }
    }
}

/// The log lines of very many services, by names.
fn ask_in_parts(order: &Order, client: &mut Client) -> Result<Response, Broken> {
    let list = Request {
        verb: Verb::List,
        ..order.request()
    };
    let mut whole = client.ask(list)?;
    let names = whole.services.drain(..).map(|service| service.name);
    let names: Vec<String> = names.collect();
    for names in names.chunks(PART) {
        let part = client.ask(Request {
            names: names.to_vec(),
            ..order.request()
        })?;
        whole.ok &= part.ok;
        whole.services.extend(part.services);
        // One that has gone in the meantime: what was answered before is told.
        whole.error = whole.error.or(part.error);
    }
    Ok(whole)
}

/// How the services stand by now, when it can't be known what became of a command. False when the
/// successor can't tell either.
fn show_state(order: &Order, path: &Path, screen: &mut Screen) -> io::Result<bool> {
    let Some(status) = named("status") else {
        return Ok(false);
    };
    let mut look = Order::new(status, order.names.clone());
    look.socket.clone_from(&order.socket);
    let Ok((_, response)) = ask(&look, path) else {
        return Ok(false);
    };
    let asked = asked(order);
    screen.complain(format_args!(
        "whether '{asked}' was carried out is unknown; the next supervisor says:"
    ))?;
    let text = table::render(&response.services, Look::default());
    screen.err.write_all(text.as_bytes())?;
    Ok(true)
}

fn asked(order: &Order) -> String {
    let mut asked = order.row.name.to_owned();
    for name in &order.names {
        push(&mut asked, format_args!(" {}", safe(name)));
    }
    asked
}

fn what_is_unknown(order: &Order) -> String {
    let asked = asked(order);
    if order.only_looks() {
        return format!("nothing was changed; ask again: outlast {asked}");
    }
    let mut look = "outlast status".to_owned();
    for name in &order.names {
        push(&mut look, format_args!(" {}", safe(name)));
    }
    format!("whether '{asked}' was carried out is unknown; look: {look}")
}

fn print(
    order: &Order,
    response: &Response,
    pid: Option<i32>,
    screen: &mut Screen,
) -> io::Result<Exit> {
    if order.json {
        let asked = response.services.iter();
        let asked = asked.filter(|it| is_asked_for(order, it)).cloned();
        screen.json(&asked.collect::<Vec<_>>())?;
    }
    if let Some(trouble) = &response.error {
        screen.complain(safe(&trouble.message))?;
    }
    // A refusal for the very reason has said it already.
    if let Some(notice) = &response.notice
        && response.error.as_ref() != Some(notice)
    {
        screen.complain(format_args!("warning: {}", safe(&notice.message)))?;
    }
    match order.row.verb {
        Verb::Status => print_status(order, response, screen),
        Verb::List => print_list(order, response, screen),
        Verb::Why => print_why(order, response, screen),
        Verb::Check => print_check(order, response, screen),
        Verb::Reload if order.names.is_empty() => print_reload(order, response, screen),
        Verb::Shutdown => print_shutdown(order, response, pid, screen),
        Verb::Start
        | Verb::Stop
        | Verb::Restart
        | Verb::Once
        | Verb::Pause
        | Verb::Cont
        | Verb::Hup
        | Verb::Alarm
        | Verb::Interrupt
        | Verb::Quit
        | Verb::Usr1
        | Verb::Usr2
        | Verb::Term
        | Verb::Kill
        | Verb::Reload
        | Verb::Upgrade
        | Verb::StepDown => print_outcomes(order, response, screen),
    }
}

fn print_status(order: &Order, response: &Response, screen: &mut Screen) -> io::Result<Exit> {
    if response.services.is_empty() && response.error.is_none() {
        screen.complain("the supervisor has no services yet")?;
    } else if !order.json && !response.services.is_empty() {
        let text = table::render(&response.services, screen.look);
        screen.out.write_all(text.as_bytes())?;
    }
    let all_up = response
        .services
        .iter()
        .all(|service| service.state == State::Up);
    Ok(match Exit::of_answer(response) {
        Exit::Success if !order.names.is_empty() && !all_up => Exit::NotUp,
        exit => exit,
    })
}

fn print_list(order: &Order, response: &Response, screen: &mut Screen) -> io::Result<Exit> {
    if !order.json {
        let mut text = String::new();
        for service in &response.services {
            push(&mut text, format_args!("{}\n", safe(&service.name)));
        }
        screen.out.write_all(text.as_bytes())?;
    }
    Ok(Exit::of_answer(response))
}

fn print_why(order: &Order, response: &Response, screen: &mut Screen) -> io::Result<Exit> {
    if !order.json {
        let look = screen.look;
        let stories = response
            .services
            .iter()
            .map(|service| why::render(service, look));
        screen
            .out
            .write_all(stories.collect::<Vec<_>>().join("\n").as_bytes())?;
    }
    Ok(Exit::of_answer(response))
}

/// Without names, services that aren't wanted up are as they should be.
fn print_check(order: &Order, response: &Response, screen: &mut Screen) -> io::Result<Exit> {
    let mut exit = response
        .error
        .as_ref()
        .map_or(Exit::Success, Exit::of_trouble);
    let mut text = String::new();
    for service in &response.services {
        if !is_asked_for(order, service) {
            continue;
        }
        let fine = service.outcome.as_ref().is_none_or(|outcome| outcome.ok);
        if fine && service.state == State::Up && service.ready {
            push(
                &mut text,
                format_args!("{}\n", answer::success(order.row, true, service)),
            );
            continue;
        }
        writeln!(screen.err, "{}", check_failure(order.row, service))?;
        exit = exit.or_worse(exit_of_service(service));
    }
    if !order.json {
        screen.out.write_all(text.as_bytes())?;
    }
    Ok(exit)
}

/// A check of all means those that should be up.
fn is_asked_for(order: &Order, service: &Service) -> bool {
    order.row.verb != Verb::Check || !order.names.is_empty() || service.want == Want::Up
}

fn check_failure(row: &Row, service: &Service) -> String {
    if service.outcome.as_ref().is_some_and(|outcome| !outcome.ok) || service.problem.is_some() {
        return answer::failure(row, service);
    }
    format!(
        "{}: not up and ready: {}",
        safe(&service.name),
        answer::state_words(service)
    )
}

fn exit_of_service(service: &Service) -> Exit {
    let outcome = service.outcome.as_ref();
    let trouble = outcome.and_then(|outcome| outcome.trouble.as_ref());
    trouble.map_or(Exit::NotReached, Exit::of_trouble)
}

fn print_outcomes(order: &Order, response: &Response, screen: &mut Screen) -> io::Result<Exit> {
    let mut text = String::new();
    for service in &response.services {
        match reached(service, response) {
            true => {
                let line = answer::success(order.row, order.wait, service);
                push(&mut text, format_args!("{line}\n"));
            }
            false => writeln!(screen.err, "{}", answer::failure(order.row, service))?,
        }
    }
    if !order.json {
        screen.out.write_all(text.as_bytes())?;
    }
    let exit = Exit::of_answer(response);
    let told = response.error.is_some() || !response.services.is_empty();
    if exit != Exit::Success && !told {
        screen.complain(format_args!(
            "{} failed, and the supervisor does not say why",
            order.row.name
        ))?;
    }
    Ok(exit)
}

fn reached(service: &Service, response: &Response) -> bool {
    service
        .outcome
        .as_ref()
        .map_or(response.ok, |outcome| outcome.ok)
}

fn print_reload(order: &Order, response: &Response, screen: &mut Screen) -> io::Result<Exit> {
    let exit = Exit::of_answer(response);
    if exit == Exit::Success && !order.json {
        let number = match response.services.len() {
            0 => String::new(),
            some => format!(": {}", count(some, "service")),
        };
        writeln!(
            screen.out,
            "the service directories were read again{number}"
        )?;
    }
    print_failures(order, response, screen)?;
    Ok(exit)
}

fn print_shutdown(
    order: &Order,
    response: &Response,
    pid: Option<i32>,
    screen: &mut Screen,
) -> io::Result<Exit> {
    let exit = Exit::of_answer(response);
    if exit == Exit::Success && !order.json {
        let pid = pid.map(|pid| format!(" (pid {pid})")).unwrap_or_default();
        match order.wait {
            true => writeln!(
                screen.out,
                "the supervisor{pid} has stopped its services and ends"
            )?,
            false => writeln!(
                screen.out,
                "the supervisor{pid} was told to stop its services and end"
            )?,
        }
    }
    print_failures(order, response, screen)?;
    Ok(exit)
}

fn print_failures(order: &Order, response: &Response, screen: &mut Screen) -> io::Result<()> {
    for service in &response.services {
        if service.outcome.as_ref().is_some_and(|outcome| !outcome.ok) {
            writeln!(screen.err, "{}", answer::failure(order.row, service))?;
        }
    }
    Ok(())
}

/// After "no such service": which name may have been meant. Silent when that can't be found out.
fn suggest(order: &Order, client: &mut Client, screen: &mut Screen) -> io::Result<()> {
    let Some(list) = named("list") else {
        return Ok(());
    };
    let Ok(all) = client.ask(Order::new(list, Vec::new()).request()) else {
        return Ok(());
    };
    let known: Vec<&str> = all
        .services
        .iter()
        .map(|service| service.name.as_str())
        .collect();
    for name in order
        .names
        .iter()
        .filter(|name| !known.contains(&name.as_str()))
    {
        let likeness = |other: &&str| strsim::normalized_damerau_levenshtein(name, other);
        let nearest = known
            .iter()
            .max_by(|a, b| likeness(a).total_cmp(&likeness(b)));
        if let Some(nearest) = nearest.filter(|other| likeness(other) >= LIKENESS_MIN) {
            screen.complain(format_args!("did you mean '{}'?", safe(nearest)))?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests;
