//! A test case: a name, what it needs from the machine, and a test.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;
use std::sync::RwLock;
use std::time::Instant;

use libtest_mimic::{Failed, Trial};

/// Each case locks it for reading. A case that must run alone locks it for writing.
static MACHINE: RwLock<()> = RwLock::new(());

/// Environment variable that makes each case print how long it took.
const TIMES: &str = "TRACER_TEST_TIMES";

/// What a case needs beyond root and BTF, which all need.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Need {
    /// A program on `PATH`.
    Tool(&'static str),
    /// A file or directory.
    Path(&'static str),
    /// A kernel of at least this version.
    Kernel(u32, u32),
    /// Anything else. The function returns the reason if it is missing.
    Check(fn() -> Option<String>),
    /// No other case at the same time, because this one changes or measures the whole machine.
    Alone,
    /// Works without root and without BTF.
    Nothing,
}

impl Need {
    fn unmet(self) -> Option<String> {
        match self {
            Self::Tool(name) if which(name) => None,
            Self::Tool(name) => Some(format!("{name} is not installed")),
            Self::Path(path) if Path::new(path).exists() => None,
            Self::Path(path) => Some(format!("there is no {path}")),
            Self::Kernel(major, minor) => {
                let running = kernel_version();
                (running < (major, minor))
                    .then(|| format!("Linux {}.{} is older than {major}.{minor}", running.0, running.1))
            }
            Self::Check(check) => check(),
            Self::Alone | Self::Nothing => None,
        }
    }
}

/// One test with its requirements.
pub(crate) struct Case {
    name: String,
    needs: &'static [Need],
    test: Box<dyn FnOnce() + Send>,
}

/// Returns a case without special needs; see [`Case::needs`].
pub(crate) fn case(name: impl Into<String>, test: impl FnOnce() + Send + 'static) -> Case {
    Case { name: name.into(), needs: &[], test: Box::new(test) }
}

impl Case {
    /// Sets what the machine must offer.
    pub(crate) fn needs(mut self, needs: &'static [Need]) -> Self {
        self.needs = needs;
        self
    }

    pub(crate) fn name(&self) -> &str {
        &self.name
    }

    /// Returns why it cannot run here.
    pub(crate) fn unmet(&self) -> Option<String> {
        let privileged = !self.needs.iter().any(|need| matches!(need, Need::Nothing));
        if privileged && !nix::unistd::geteuid().is_root() {
            return Some("not root".to_owned());
        }
        if privileged && !Path::new("/sys/kernel/btf/vmlinux").exists() {
            return Some("there is no /sys/kernel/btf/vmlinux".to_owned());
        }
        self.needs.iter().find_map(|need| need.unmet())
    }

    pub(crate) fn is_alone(&self) -> bool {
        self.needs.iter().any(|need| matches!(need, Need::Alone))
    }

    /// Converts it for libtest. A case that cannot run here is ignored; it never counts as passed.
    pub(crate) fn into_trial(self, unmet: Option<String>) -> Trial {
        let alone = self.is_alone();
        let ignored = unmet.is_some();
        let name = self.name.clone();
        Trial::test(self.name, move || {
            if let Some(reason) = unmet {
                return Err(Failed::from(reason));
            }
            // A panic of an earlier case poisons the lock, but does not affect this case.
            if alone {
                let _machine = MACHINE.write().unwrap_or_else(std::sync::PoisonError::into_inner);
                timed(&name, self.test)
            } else {
                let _machine = MACHINE.read().unwrap_or_else(std::sync::PoisonError::into_inner);
                timed(&name, self.test)
            }
        })
        .with_ignored_flag(ignored)
    }
}

fn timed(name: &str, test: Box<dyn FnOnce() + Send>) -> Result<(), Failed> {
    let started = Instant::now();
    let outcome = run(test);
    if std::env::var_os(TIMES).is_some() {
        eprintln!("{name}: took {:.1} s", started.elapsed().as_secs_f64());
    }
    outcome
}

fn run(test: Box<dyn FnOnce() + Send>) -> Result<(), Failed> {
    catch_unwind(AssertUnwindSafe(test)).map_err(|panic| {
        let message = panic
            .downcast_ref::<String>()
            .cloned()
            .or_else(|| panic.downcast_ref::<&str>().map(|text| (*text).to_owned()))
            .unwrap_or_else(|| "panicked".to_owned());
        Failed::from(message)
    })
}

/// Returns true if `name` is a program on `PATH`.
pub(crate) fn which(name: &str) -> bool {
    std::env::var_os("PATH")
        .is_some_and(|path| std::env::split_paths(&path).any(|directory| directory.join(name).is_file()))
}

/// Returns the running kernel's major and minor version.
pub(crate) fn kernel_version() -> (u32, u32) {
    let release = std::fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
    let mut numbers = release.split(|c: char| !c.is_ascii_digit()).map(|part| part.parse().unwrap_or(0));
    (numbers.next().unwrap_or(0), numbers.next().unwrap_or(0))
}
