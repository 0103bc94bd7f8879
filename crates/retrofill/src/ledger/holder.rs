//! Who this process is, and whether another holder is certainly gone.

use std::fs;

use retrofill_core::error::{Error, Result};
use retrofill_core::ledger::Holder;

/// This process, as a lease names it. An error of kind `Config` where the system does not say.
pub fn this_process() -> Result<Holder> {
    let pid = std::process::id();
    let host = rustix::system::uname().nodename().to_string_lossy().into_owned();
    let started = started(pid).ok_or_else(|| {
        Error::config("cannot learn when this process started")
            .hint("`/proc` must be mounted: a lease names its process by it")
    })?;
    Ok(Holder { host, boot: boot(), pid, started })
}

/// Whether the holder's process is certainly gone: same host, and since then the host was
/// restarted or the process ended. False whenever that cannot be known, for instance from
/// another container.
pub fn is_gone(holder: &Holder) -> bool {
    let here = rustix::system::uname();
    let boot = boot();
    if holder.host.as_bytes() != here.nodename().to_bytes() || boot.is_empty() {
        return false;
    }
    if holder.boot != boot {
        return true;
    }
    // Process ids of another namespace say nothing here.
    let same_namespace = holder.started.split_once(' ').map(|(_, n)| n) == namespace().as_deref();
    same_namespace && started(holder.pid).as_deref() != Some(holder.started.as_str())
}

fn boot() -> String {
    fs::read_to_string("/proc/sys/kernel/random/boot_id").unwrap_or_default().trim().to_owned()
}

fn namespace() -> Option<String> {
    let link = fs::read_link("/proc/self/ns/pid").ok()?;
    Some(link.to_string_lossy().into_owned())
}

/// Start time in clock ticks since boot and pid namespace; none where there is no such process
/// or only its remains, which run no more.
fn started(pid: u32) -> Option<String> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    let ticks = start_ticks(&stat)?;
    Some(format!("{ticks} {}", namespace()?))
}

/// Field 22 of a process's `stat`. The second field, the program's name, may hold anything, so
/// fields count from behind its last parenthesis, where the process's state stands.
fn start_ticks(stat: &str) -> Option<&str> {
    let mut fields = stat.rsplit_once(')')?.1.split_ascii_whitespace();
    let state = fields.next()?;
    if matches!(state, "Z" | "X" | "x") {
        return None;
    }
    fields.nth(18)
}

#[cfg(test)]
mod tests {
    use std::process::Command;

    use super::*;

    #[test]
    fn this_process_is_not_gone_but_others_are() {
        let here = this_process().unwrap();
        assert!(!is_gone(&here));
        let used_again = Holder { started: here.started.replacen(' ', "1 ", 1), ..here.clone() };
        assert!(is_gone(&used_again));
        assert!(is_gone(&Holder { boot: "before".into(), ..here.clone() }));
        assert!(!is_gone(&Holder { host: "elsewhere".into(), pid: 0, ..here.clone() }));
        assert!(!is_gone(&Holder { started: "1 pid:[7]".into(), pid: 0, ..here }));
    }

    #[test]
    fn a_killed_process_is_gone_before_it_is_reaped() {
        let mut child = Command::new("sleep").arg("60").spawn().unwrap();
        let here = this_process().unwrap();
        let pid = child.id();
        let holder = Holder { pid, started: started(pid).unwrap(), ..here };
        assert!(!is_gone(&holder));
        child.kill().unwrap();
        let mut tries = 0;
        while !is_gone(&holder) {
            assert!(tries < 1000, "it counts as alive until it is reaped");
            tries += 1;
            std::thread::sleep(std::time::Duration::from_millis(5));
        }
        child.wait().unwrap();
        assert!(is_gone(&holder));
    }

    #[test]
    fn names_of_programs_do_not_shift_fields() {
        let fields: Vec<String> = (4..=52).map(|n| n.to_string()).collect();
        let stat = format!("7 (a) b) S {}", fields.join(" "));
        assert_eq!(start_ticks(&stat), Some("22"));
        assert_eq!(start_ticks("7 (a) Z 1 2 3"), None);
    }
}
