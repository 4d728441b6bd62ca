//! Root gives its rights up where the state belongs to the agent's own user.
//!
//! What root does by hand then leaves no files behind that the service cannot write, and `doctor` reads what
//! the service may read.

use crate::paths::StateDir;
use anyhow::Result;

/// Becomes the owner of the state folder, if this is root and the folder is there and somebody else's. The one
/// right that stays is to read everything, which the service has too.
///
/// # Errors
/// When the system refuses.
#[cfg(target_os = "linux")]
pub fn become_owner(state: &StateDir) -> Result<()> {
    use anyhow::Context;
    use rustix::{
        process::{Gid, Uid, geteuid},
        thread::{
            CapabilitySet, CapabilitySets, capability_is_in_bounding_set,
            configure_capability_in_ambient_set, set_capabilities, set_keep_capabilities,
            set_no_new_privs, set_thread_groups, set_thread_res_gid, set_thread_res_uid,
        },
    };
    use std::os::unix::fs::MetadataExt;

    let Ok(about) = std::fs::symlink_metadata(state.path()) else { return Ok(()) };
    if !geteuid().is_root() || about.uid() == 0 {
        return Ok(());
    }
    let (user, group) = (Uid::from_raw(about.uid()), Gid::from_raw(about.gid()));
    let reading = CapabilitySet::DAC_READ_SEARCH;
    // The program has one thread here, so what holds for the thread holds for all of it.
    let change = || -> rustix::io::Result<()> {
        let may_read = capability_is_in_bounding_set(reading)?;
        // No program that this one starts may get back what is given up.
        set_no_new_privs(true)?;
        set_keep_capabilities(true)?;
        set_thread_groups(&[])?;
        set_thread_res_gid(group, group, group)?;
        set_thread_res_uid(user, user, user)?;
        let kept = if may_read { reading } else { CapabilitySet::empty() };
        set_capabilities(
            None,
            CapabilitySets { effective: kept, permitted: kept, inheritable: kept },
        )?;
        if may_read {
            configure_capability_in_ambient_set(reading, true)?;
        }
        Ok(())
    };
    change().with_context(|| {
        format!("Failed to go on as the owner of {}, user {}", state.path().display(), about.uid())
    })
}

/// Elsewhere the agent runs as whoever owns its state.
///
/// # Errors
/// Never.
#[cfg(not(target_os = "linux"))]
#[expect(clippy::unnecessary_wraps, reason = "on Linux it can fail")]
pub fn become_owner(_state: &StateDir) -> Result<()> {
    Ok(())
}
