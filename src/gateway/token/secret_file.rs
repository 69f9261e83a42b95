//! The file that contains the token, or the secret of the application.

use std::path::Path;

use secrecy::SecretString;

use super::error::TokenError;
use crate::gateway::blocking_read::BlockingRead;
use crate::gateway::deadline::Deadline;
use crate::gateway::file::FileError;

/// Reads the file without blocking the runtime, one read at a time.
#[derive(Debug, Default)]
pub(super) struct SecretFile(BlockingRead<Result<SecretString, FileError>>);

impl SecretFile {
    /// Reads the file at `path` with `read`.
    pub(super) async fn read(
        &mut self,
        read: fn(&Path) -> Result<SecretString, FileError>,
        path: &Path,
        deadline: Deadline,
    ) -> Result<SecretString, TokenError> {
        let owned = path.to_owned();
        let secret = self.0.within(deadline.remaining(), move || read(&owned));
        match secret.await {
            Some(secret) => Ok(secret?),
            None => Err(TokenError::SlowFile {
                path: path.display().to_string(),
                timeout: deadline.timeout,
            }),
        }
    }
}
