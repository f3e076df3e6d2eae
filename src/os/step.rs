//! The steps of a start, numbered for the wire: who failed, told by one byte.
//!
//! The keeper's child and launch write (step, errno, detail) into the report pipe; the supervisor
//! turns them into words with `launch::report`. Numbers are never reused.

macro_rules! steps {
    ($($(#[$doc:meta])* $name:ident = $number:literal,)*) => {
        /// One step between the decision to start a program and its first instruction.
        #[derive(Clone, Copy, PartialEq, Eq, Debug, Hash)]
        #[repr(u8)]
        pub enum Step { $($(#[$doc])* $name = $number,)* }

        impl Step {
            /// None for a number that this version does not know.
            pub fn from_number(number: u8) -> Option<Step> {
                match number { $($number => Some(Step::$name),)* _ => None }
            }
        }
    };
}

steps! {
    /// The keeper refused or could not prepare (a second live process, no such stored fd).
    Prepare = 1,
    Fork = 2,
    /// setsid(2)
    Session = 3,
    /// fchdir(2) to the service directory
    ServiceDirectory = 4,
    /// dup2(2) of stdin, stdout, stderr
    Descriptors = 5,
    /// execve(2)
    Exec = 6,
    /// the plan could not be read
    Plan = 7,
    /// `env-file`
    EnvFile = 8,
    /// an environment directory
    EnvDir = 9,
    /// the user is unknown
    User = 10,
    /// a group is unknown
    Group = 11,
    SetGroups = 12,
    SetGid = 13,
    SetUid = 14,
    Limit = 15,
    Umask = 16,
    /// chdir(2) to `directory`
    Directory = 17,
    Chroot = 18,
    Nice = 19,
    Cgroup = 20,
    Lock = 21,
    /// The program is not on the search path.
    Search = 22,
    /// There is no keeper that could fork.
    Keeper = 23,
}

impl Step {
    pub fn number(self) -> u8 {
        self as u8
    }
}

/// Longest detail in bytes; longer ones are cut at a character border.
pub const DETAIL_BYTES_MAX: usize = 160;

/// What comes through the report pipe: step, errno in native byte order, then the detail.
/// A pipe closed without a byte means that the exec worked.
pub const REPORT_HEAD_BYTES: usize = 5;
