//! The cells of a row.

use reqwest::StatusCode;

use super::Row;

/// Who asks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Who {
    Admin,
    User,
    Viewer,
    Custom,
    Key,
    Anonymous,
}

/// Whose the thing is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Whose {
    Own,
    Other,
    SharedToRead,
    SharedToExecute,
    Foreign,
}

/// What must come of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Mark {
    Admitted,
    Forbidden,
    NotFound,
    Unrecognised,
}

#[derive(Debug, Clone)]
pub(super) struct Cell {
    pub(super) method: &'static str,
    pub(super) route: &'static str,
    pub(super) who: Who,
    pub(super) whose: Whose,
    pub(super) mark: Mark,
}

const CALLERS: [Who; 5] = [Who::Admin, Who::User, Who::Viewer, Who::Custom, Who::Key];
const THINGS: [Whose; 5] =
    [Whose::Own, Whose::Other, Whose::SharedToRead, Whose::SharedToExecute, Whose::Foreign];

impl Mark {
    /// Whether a status is of the class.
    pub(super) fn admits(self, status: StatusCode) -> bool {
        let refused =
            [StatusCode::UNAUTHORIZED, StatusCode::FORBIDDEN, StatusCode::NOT_FOUND].contains(&status);
        match self {
            Self::Admitted => !refused && !status.is_server_error(),
            Self::Forbidden => status == StatusCode::FORBIDDEN,
            Self::NotFound => status == StatusCode::NOT_FOUND,
            Self::Unrecognised => status == StatusCode::UNAUTHORIZED,
        }
    }
}

impl Cell {
    /// Whether the caller is refused whatever the thing is: for lack of a permission.
    pub(super) fn is_gated(&self, row: &Row) -> bool {
        let caller = CALLERS.iter().position(|who| *who == self.who);
        caller.is_some_and(|caller| row.2[caller].bytes().all(|letter| letter == b'n'))
    }
}

/// All cells of a row.
pub(super) fn cells_of(row: &Row) -> Vec<Cell> {
    let (method, route, marks) = *row;
    let cell = |who, whose, mark| Cell { method, route, who, whose, mark };
    let mut cells = vec![cell(Who::Anonymous, Whose::Other, Mark::Unrecognised)];
    for (who, marks) in CALLERS.into_iter().zip(marks) {
        assert!(marks.len() == 1 || marks.len() == THINGS.len(), "{route}: {marks}");
        for (whose, letter) in THINGS.into_iter().zip(marks.chars()) {
            let mark = match letter {
                'y' => Mark::Admitted,
                'n' => Mark::Forbidden,
                '-' => Mark::NotFound,
                other => panic!("{route}: {other}"),
            };
            cells.push(cell(who, whose, mark));
        }
    }
    cells
}
