//! What the words of sv's command line ask for. Pure; most are known by their first letter.

/// What is done with each service.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Task {
    Show,
    /// Nothing is sent: the state that was asked for earlier is waited for.
    Look,
    /// These bytes go to `supervise/control`. When they are waited for, each is a condition.
    Send(&'static [u8]),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Order {
    pub task: Task,
    pub waits: bool,
    /// What has not come about in time is killed.
    pub kills: bool,
}

impl Order {
    pub fn ends_runsv(&self) -> bool {
        self.task == Task::Send(b"x")
    }
}

/// None for what is no command. Scripts are asked for `status` by its whole name.
pub fn order(word: &[u8], is_script: bool, waits_always: bool) -> Option<Order> {
    let send = |bytes| Order {
        task: Task::Send(bytes),
        waits: waits_always,
        kills: false,
    };
    let waiting = |bytes| Order {
        waits: true,
        ..send(bytes)
    };
    let forced = |bytes| Order {
        kills: true,
        ..waiting(bytes)
    };
    Some(match word {
        b"start" => waiting(b"u"),
        b"stop" => waiting(b"d"),
        b"shutdown" => waiting(b"x"),
        b"restart" => waiting(b"tcu"),
        b"reload" => waiting(b"h"),
        b"try-restart" => waiting(b"tc"),
        b"force-stop" => forced(b"d"),
        b"force-shutdown" => forced(b"x"),
        b"force-restart" => forced(b"tcu"),
        b"force-reload" => forced(b"tc"),
        b"check" => Order {
            task: Task::Look,
            ..waiting(b"")
        },
        _ => match *word.first()? {
            b's' if !is_script || word == b"status" => Order {
                task: Task::Show,
                waits: false,
                kills: false,
            },
            b'D' => forced(b"d"),
            b'T' => forced(b"tc"),
            b'X' | b'E' => forced(b"x"),
            b'x' | b'e' => send(b"x"),
            b'u' => send(b"u"),
            b'd' => send(b"d"),
            b'o' => send(b"o"),
            b't' => send(b"t"),
            b'p' => send(b"p"),
            b'c' => send(b"c"),
            b'h' => send(b"h"),
            b'a' => send(b"a"),
            b'i' => send(b"i"),
            b'k' => send(b"k"),
            b'q' => send(b"q"),
            b'1' => send(b"1"),
            b'2' => send(b"2"),
            _ => return None,
        },
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn task(word: &str) -> Option<Task> {
        order(word.as_bytes(), false, false).map(|order| order.task)
    }

    #[test]
    fn the_first_letter_is_enough_except_where_words_share_it() {
        assert_eq!(task("paws"), Some(Task::Send(b"p")));
        assert_eq!(task("try"), Some(Task::Send(b"t")));
        assert_eq!(task("chec"), Some(Task::Send(b"c")));
        assert_eq!(task("sto"), Some(Task::Show));
        for wrong in ["", "r", "restarts", "f", "force-x", "z", "H", "S"] {
            assert_eq!(task(wrong), None, "{wrong:?}");
        }
    }

    #[test]
    fn an_init_script_has_no_short_status() {
        assert_eq!(order(b"stat", true, false), None);
        let status = order(b"status", true, true).expect("a command");
        assert_eq!((status.task, status.waits), (Task::Show, false));
    }

    #[test]
    fn only_forced_orders_kill() {
        for word in ["force-stop", "D", "T", "X", "E", "force-reload"] {
            assert!(order(word.as_bytes(), false, false).expect(word).kills);
        }
        for word in ["stop", "d", "t", "x", "restart", "kill"] {
            assert!(!order(word.as_bytes(), false, true).expect(word).kills);
        }
    }
}
