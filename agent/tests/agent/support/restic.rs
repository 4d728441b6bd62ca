//! A restic that does what a test tells it, by files beside it. It remembers snapshots and how it
//! was called.

use std::{
    fs,
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
};

const SCRIPT: &str = r#"#!/bin/sh
here=$(dirname "$0")
if [ "$1" = version ]; then echo "restic 0.18.0 compiled with go1.24.4 on linux/amd64"; exit 0; fi
echo "$*" >> "$here/calls"
env >> "$here/environment"
command=
for word in "$@"; do
  case $word in
    --json) ;;
    -*) ;;
    *) command=$word; break ;;
  esac
done
run=$(echo "$*" | sed -n 's/.*--tag=\(run:[^ ]*\).*/\1/p')
case $command in
  backup)
    echo '{"message_type":"status","percent_done":0.5,"total_files":2,"files_done":1,"total_bytes":10,"bytes_done":5}'
    echo '{"message_type":"status","percent_done":0.6,"total_files":2,"files_done":1,"total_bytes":10,"bytes_done":6}'
    trap 'exit 130' INT
    while [ -e "$here/hold" ]; do sleep 0.05; done
    trap - INT
    if [ -e "$here/fail" ]; then cat "$here/fail" >&2; exit 1; fi
    if [ -e "$here/flood" ]; then yes "a line of the flood" | head -n 12000 >&2; fi
    if [ -e "$here/long" ]; then head -c 1048576 /dev/zero | tr '\0' x >&2; echo >&2; fi
    id=$(echo "$run" | tr -dc '0-9a-f' | sed 's/$/0000000000000000000000000000000000000000000000000000000000000000/' | cut -c1-64)
    echo "$id $run" >> "$here/snapshots"
    echo '{"message_type":"summary","files_new":1,"total_files_processed":1,"total_bytes_processed":7,"data_added":7,"snapshot_id":"'$id'"}'
    ;;
  snapshots)
    if [ -e "$here/unreachable" ]; then echo "Fatal: unable to open repository: connection refused" >&2; exit 1; fi
    printf '['
    comma=
    if [ -e "$here/snapshots" ]; then
      while read -r id tag; do
        case "$*" in *--tag=*) case "$*" in *"$tag"*) ;; *) continue ;; esac ;; esac
        printf '%s{"id":"%s","time":"2026-11-23T12:00:00Z","paths":["/source"],"hostname":"web-1","tags":["%s"]}' "$comma" "$id" "$tag"
        comma=,
      done < "$here/snapshots"
    fi
    echo ']'
    ;;
  stats) echo '{"total_size":70,"snapshots_count":1}' ;;
  init) echo '{"message_type":"initialized","id":"00000000000000000000000000000000000000000000000000000000000000aa","repository":"x"}' ;;
  restore)
    target=$(echo "$*" | sed -n 's/.*--target=\([^ ]*\).*/\1/p')
    while [ -e "$here/hold" ]; do sleep 0.05; done
    mkdir -p "$target/source"; echo content > "$target/source/file"
    echo '{"message_type":"summary","total_files":1,"files_restored":1,"total_bytes":8,"bytes_restored":8}'
    ;;
  list) ;;
  *) ;;
esac
exit 0
"#;

/// The script and the files that steer it.
pub struct FakeRestic {
    folder: PathBuf,
}

impl FakeRestic {
    pub fn new(folder: &Path) -> Self {
        fs::create_dir(folder).unwrap();
        let path = folder.join("restic");
        fs::write(&path, SCRIPT).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
        Self { folder: folder.to_owned() }
    }

    pub fn path(&self) -> PathBuf {
        self.folder.join("restic")
    }

    /// Makes it wait until the returned file is removed, or it is interrupted.
    pub fn hold(&self) -> PathBuf {
        self.switch("hold", "")
    }

    pub fn switch(&self, name: &str, content: &str) -> PathBuf {
        let path = self.folder.join(name);
        fs::write(&path, content).unwrap();
        path
    }

    pub fn read(&self, name: &str) -> String {
        fs::read_to_string(self.folder.join(name)).unwrap_or_default()
    }

    /// How often restic was called with this command.
    pub fn calls(&self, command: &str) -> usize {
        let word = format!(" {command} ");
        self.read("calls").lines().filter(|line| format!(" {line} ").contains(&word)).count()
    }
}
