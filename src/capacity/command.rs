//! A program that is told how many workers are wanted.

use std::{path::PathBuf, process::Stdio};

use control_plane::capacity::CapacityProvider;
use coordinator::capacity::Want;
use futures::{FutureExt as _, future::BoxFuture};
use tokio::process::Command;

/// Variable that has the reason for the program.
const REASON: &str = "MILLSTREAM_CAPACITY_REASON";

/// Characters of what the program says that are told.
const SAID_CHARS: usize = 200;

/// Runs a program.
#[derive(Debug)]
pub(super) struct CommandProvider {
    program: PathBuf,
}

impl CommandProvider {
    pub(super) fn new(program: PathBuf) -> CommandProvider {
        CommandProvider { program }
    }

    async fn run(&self, want: Want) -> Result<(), String> {
        let program = self.program.display();
        let output = Command::new(&self.program)
            .arg(want.workers.to_string())
            .env(REASON, want.reason)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            // It is given up when it takes too long, and must not go on then.
            .kill_on_drop(true)
            .output()
            .await
            .map_err(|error| format!("failed to run {program}: {error}"))?;
        if output.status.success() {
            return Ok(());
        }
        let said = String::from_utf8_lossy(&output.stderr);
        let last = said.lines().rfind(|line| !line.trim().is_empty());
        let last: String = last.unwrap_or_default().chars().take(SAID_CHARS).collect();
        Err(format!("{program} ended with {}: {last}", output.status))
    }
}

impl CapacityProvider for CommandProvider {
    fn name(&self) -> &'static str {
        "command"
    }

    fn want(&self, want: Want) -> BoxFuture<'_, Result<(), String>> {
        self.run(want).boxed()
    }
}

#[cfg(test)]
mod tests {
    use std::{fs, os::unix::fs::PermissionsExt as _};

    use super::*;

    async fn run(script: &str) -> (Result<(), String>, String) {
        let folder = tempfile::tempdir().expect("a folder");
        let (program, file) = (folder.path().join("scale"), folder.path().join("said"));
        let text = format!(
            "#!/bin/sh\n{}\n",
            script.replace("FILE", &file.display().to_string())
        );
        fs::write(&program, text).expect("a file");
        fs::set_permissions(&program, fs::Permissions::from_mode(0o755)).expect("a file");
        let want = Want {
            workers: 3,
            reason: "jobs grow".to_owned(),
        };
        let result = CommandProvider::new(program).want(want).await;
        (result, fs::read_to_string(file).unwrap_or_default())
    }

    #[tokio::test]
    async fn the_program_is_told_the_number_and_the_reason() {
        let (result, said) = run(r#"echo "$1 because $MILLSTREAM_CAPACITY_REASON" > FILE"#).await;
        assert_eq!(result, Ok(()));
        assert_eq!(said, "3 because jobs grow\n");
    }

    #[tokio::test]
    async fn its_failure_is_told_with_its_last_word() {
        let (result, _) = run("echo first >&2; echo no quota >&2; exit 3").await;
        let error = result.expect_err("it failed");
        assert!(
            error.ends_with("ended with exit status: 3: no quota"),
            "{error}"
        );
        let missing = CommandProvider::new("/nowhere/scale".into());
        let want = Want {
            workers: 1,
            reason: String::new(),
        };
        let error = missing.want(want).await.expect_err("there is none");
        assert!(error.starts_with("failed to run /nowhere/scale"), "{error}");
    }
}
