//! Error responses of the gateway and of the backup service.

use hyper::StatusCode;

use crate::simulator::estate::Rejection;
use crate::simulator::request::Request;
use crate::simulator::response::{GatewayResponse, RouteKind};

pub(super) fn accepted(result: Result<(), Rejection>) -> GatewayResponse {
    result.map_or_else(rejection, |()| GatewayResponse::empty(StatusCode::ACCEPTED))
}

pub(super) fn rejection(why: Rejection) -> GatewayResponse {
    match why {
        Rejection::InProgress => brs_error(
            StatusCode::CONFLICT,
            "FABRIC_E_BACKUP_IN_PROGRESS",
            "Backup already in Progress",
        ),
        Rejection::RestoreInProgress => brs_error(
            StatusCode::CONFLICT,
            "FABRIC_E_RESTORE_IN_PROGRESS",
            "Restore already in Progress.",
        ),
        Rejection::NotEnabled => brs_error(
            StatusCode::NOT_FOUND,
            "FABRIC_E_BACKUP_NOT_ENABLED",
            "Backup Mapping is not existing.",
        ),
        Rejection::NoSuchPolicy => no_such_policy(),
        Rejection::NoSuchBackup => not_found(RouteKind::Backup, "FABRIC_E_KEY_NOT_FOUND"),
        Rejection::NotFound => not_found(RouteKind::Backup, "FABRIC_E_PARTITION_NOT_FOUND"),
        Rejection::NoSuchService => not_found(RouteKind::Backup, "FABRIC_E_SERVICE_DOES_NOT_EXIST"),
        Rejection::NoSuchApplication => {
            not_found(RouteKind::Backup, "FABRIC_E_APPLICATION_NOT_FOUND")
        }
        Rejection::Stateless => brs_error(
            StatusCode::BAD_REQUEST,
            "FABRIC_E_INVALID_FOR_STATELESS_SERVICES",
            "The operation is not valid for stateless services.",
        ),
        Rejection::StorageUnreachable => brs_error(
            StatusCode::INTERNAL_SERVER_ERROR,
            "E_UNEXPECTED",
            "Unable to get recovery point details.",
        ),
        // COR_E_EXCEPTION, 0x80131500, of the exception that gathers others.
        Rejection::StorageFailed => {
            GatewayResponse::masked_by_number(2_148_734_208, "One or more errors occurred.")
        }
        Rejection::NothingToIndex => index_out_of_range(false),
    }
}

pub(super) fn not_found(kind: RouteKind, code: &str) -> GatewayResponse {
    let message = match code {
        "FABRIC_E_PARTITION_NOT_FOUND" => "The specified partition was not found.",
        "FABRIC_E_APPLICATION_NOT_FOUND" => "The specified application was not found.",
        "FABRIC_E_KEY_NOT_FOUND" => "The specified backup was not found.",
        _ => "The specified service was not found.",
    };
    GatewayResponse::error(kind, StatusCode::NOT_FOUND, code, message)
}

/// Response of the backup service to a partition id that is not a GUID: the `FormatException` of
/// the lookup (0x80131537) is masked like every exception that is not a Service Fabric error.
pub(super) fn not_a_guid(request: &Request) -> GatewayResponse {
    const MESSAGE: &str = "Guid should contain 32 digits with 4 dashes \
                           (xxxxxxxx-xxxx-xxxx-xxxx-xxxxxxxxxxxx).";
    if request.is_on_demand() {
        GatewayResponse::masked()
    } else {
        GatewayResponse::masked_by_number(2_148_734_263, MESSAGE)
    }
}

/// Response of the gateway to any request that it cannot parse.
pub(super) fn invalid_argument() -> GatewayResponse {
    GatewayResponse::error(
        RouteKind::Native,
        StatusCode::BAD_REQUEST,
        "E_INVALIDARG",
        "",
    )
}

pub(super) fn brs_invalid_argument(message: &str) -> GatewayResponse {
    brs_error(StatusCode::BAD_REQUEST, "E_INVALIDARG", message)
}

pub(super) fn brs_error(status: StatusCode, code: &str, message: &str) -> GatewayResponse {
    GatewayResponse::error(RouteKind::Backup, status, code, message)
}

/// Response for a policy that does not exist.
pub(super) fn no_such_policy() -> GatewayResponse {
    brs_error(
        StatusCode::NOT_FOUND,
        "FABRIC_E_BACKUP_POLICY_DOES_NOT_EXIST",
        "Fabric Backup Policy doesn't exist",
    )
}

/// A storage could not be read before any item was listed, or is empty: the service writes the
/// error into the first element of an empty list, which fails in turn (BRS
/// `GetRestorePointsOperation.cs`). Without paging a task throws the error, and the service joins
/// the messages of tasks by commas (BRS `BaseController.cs`).
pub(super) fn index_out_of_range(is_page: bool) -> GatewayResponse {
    const MESSAGE: &str = "Index was out of range. Must be non-negative and less than the size of \
                           the collection.\r\nParameter name: index";
    if is_page {
        return brs_invalid_argument(MESSAGE);
    }
    let status = StatusCode::INTERNAL_SERVER_ERROR;
    brs_error(status, "E_UNEXPECTED", &format!("{MESSAGE} ,\r\n"))
}
