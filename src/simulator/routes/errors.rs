//! Error responses of the gateway and of the backup service.

use hyper::StatusCode;

use crate::simulator::answer::{Answer, Kind};
use crate::simulator::estate::Refusal;
use crate::simulator::request::Request;

pub(super) fn accepted(result: Result<(), Refusal>) -> Answer {
    result.map_or_else(refusal, |()| Answer::empty(StatusCode::ACCEPTED))
}

pub(super) fn refusal(why: Refusal) -> Answer {
    match why {
        Refusal::InProgress => brs_error(
            StatusCode::CONFLICT,
            "FABRIC_E_BACKUP_IN_PROGRESS",
            "Backup already in Progress",
        ),
        Refusal::RestoreInProgress => brs_error(
            StatusCode::CONFLICT,
            "FABRIC_E_RESTORE_IN_PROGRESS",
            "Restore already in Progress.",
        ),
        Refusal::NotEnabled => brs_error(
            StatusCode::NOT_FOUND,
            "FABRIC_E_BACKUP_NOT_ENABLED",
            "Backup Mapping is not existing.",
        ),
        Refusal::NoSuchPolicy => no_such_policy(),
        Refusal::NoSuchBackup => not_found(Kind::Backup, "FABRIC_E_KEY_NOT_FOUND"),
        Refusal::NotFound => not_found(Kind::Backup, "FABRIC_E_PARTITION_NOT_FOUND"),
        Refusal::NoSuchService => not_found(Kind::Backup, "FABRIC_E_SERVICE_DOES_NOT_EXIST"),
        Refusal::NoSuchApplication => not_found(Kind::Backup, "FABRIC_E_APPLICATION_NOT_FOUND"),
        Refusal::Stateless => brs_error(
            StatusCode::BAD_REQUEST,
            "FABRIC_E_INVALID_FOR_STATELESS_SERVICES",
            "The operation is not valid for stateless services.",
        ),
        Refusal::StorageUnreachable => brs_error(
            StatusCode::INTERNAL_SERVER_ERROR,
            "E_UNEXPECTED",
            "Unable to get recovery point details.",
        ),
        // COR_E_EXCEPTION, 0x80131500, of the exception that gathers others.
        Refusal::StorageFailed => {
            Answer::masked_by_number(2_148_734_208, "One or more errors occurred.")
        }
        Refusal::NothingToIndex => index_out_of_range(false),
    }
}

pub(super) fn not_found(kind: Kind, code: &str) -> Answer {
    let message = match code {
        "FABRIC_E_PARTITION_NOT_FOUND" => "The specified partition was not found.",
        "FABRIC_E_APPLICATION_NOT_FOUND" => "The specified application was not found.",
        "FABRIC_E_KEY_NOT_FOUND" => "The specified backup was not found.",
        _ => "The specified service was not found.",
    };
    Answer::error(kind, StatusCode::NOT_FOUND, code, message)
}

/// What the backup service makes of a partition id that is not a GUID: the `FormatException` of
/// the lookup (0x80131537) is masked like any other that is no error of Service Fabric.
pub(super) fn not_a_guid(request: &Request) -> Answer {
    const MESSAGE: &str = "Guid should contain 32 digits with 4 dashes \
                           (xxxxxxxx-xxxx-xxxx-xxxx-xxxxxxxxxxxx).";
    if request.is_on_demand() {
        Answer::masked()
    } else {
        Answer::masked_by_number(2_148_734_263, MESSAGE)
    }
}

/// The gateway's one answer to whatever it does not understand.
pub(super) fn invalid_argument() -> Answer {
    Answer::error(Kind::Native, StatusCode::BAD_REQUEST, "E_INVALIDARG", "")
}

pub(super) fn brs_invalid_argument(message: &str) -> Answer {
    brs_error(StatusCode::BAD_REQUEST, "E_INVALIDARG", message)
}

pub(super) fn brs_error(status: StatusCode, code: &str, message: &str) -> Answer {
    Answer::error(Kind::Backup, status, code, message)
}

/// The refusal of a policy that does not exist.
pub(super) fn no_such_policy() -> Answer {
    brs_error(
        StatusCode::NOT_FOUND,
        "FABRIC_E_BACKUP_POLICY_DOES_NOT_EXIST",
        "Fabric Backup Policy doesn't exist",
    )
}

/// A storage could not be read while nothing was listed yet, or there is nothing in it to read:
/// the error is written into the first element of an empty list, which is an error of its own
/// (BRS `GetRestorePointsOperation.cs`). Outside of pages a task throws it, and the texts of what
/// tasks throw are joined by commas (BRS `BaseController.cs`).
pub(super) fn index_out_of_range(is_page: bool) -> Answer {
    const MESSAGE: &str = "Index was out of range. Must be non-negative and less than the size of \
                           the collection.\r\nParameter name: index";
    if is_page {
        return brs_invalid_argument(MESSAGE);
    }
    let status = StatusCode::INTERNAL_SERVER_ERROR;
    brs_error(status, "E_UNEXPECTED", &format!("{MESSAGE} ,\r\n"))
}
