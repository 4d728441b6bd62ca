//! What a run's log says for people at its beginning.

use crate::core::{Order, Task};
use outcome::words::{count, names, short};

/// The first line of a run.
pub fn begins(order: &Order) -> String {
    let name = &order.repository.name;
    let dry = |is_dry: bool| if is_dry { " Nothing will be changed." } else { "" };
    match &order.task {
        Task::Backup { paths, excludes, .. } => {
            let left_out = match excludes.len() {
                0 => String::new(),
                n => format!("; {} leave things out", count(n, "pattern")),
            };
            format!("Backing up into the repository {name}: {}{left_out}.", names(paths))
        }
        Task::Init => format!("Creating the repository {name} at {}.", order.repository.url),
        Task::Forget { dry_run, .. } => format!(
            "Removing this machine's snapshots from the repository {name} that the plan does not keep.{}",
            dry(*dry_run)
        ),
        Task::Prune { dry_run } => format!(
            "Removing data from the repository {name} that no snapshot needs.{}",
            dry(*dry_run)
        ),
        Task::Check { read_data: true } => {
            format!("Verifying the repository {name}, and reading all of its data.")
        }
        Task::Check { read_data: false } => format!("Verifying the structure of {name}."),
        Task::Unlock => {
            format!("Removing the locks that this agent's runs left in the repository {name}.")
        }
        Task::Stats => format!("Reading what is in the repository {name}."),
        Task::Restore { snapshot_id, include } => {
            let what = if include.is_empty() { "everything".to_owned() } else { names(include) };
            format!("Restoring from snapshot {} of {name}: {what}.", short(snapshot_id))
        }
    }
}
