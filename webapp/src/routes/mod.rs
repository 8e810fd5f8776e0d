//! The addresses of the page, and what each answers. One file for each thing that an admin does.

mod backup;
mod events;
mod home;
mod restore;
mod session;
mod upload;

use rocket::http::Status;
use rocket::{Catcher, Request, Route, catch, catchers, routes};

use crate::page::Page;
use crate::{assets, host};

/// Every route.
pub fn all() -> Vec<Route> {
    routes![
        assets::style,
        assets::script,
        assets::icon,
        host::refused,
        session::form,
        session::sign_in,
        session::sign_out,
        home::home,
        backup::download,
        backup::download_as_it_is,
        backup::status,
        upload::form,
        upload::upload,
        restore::confirm,
        restore::discard,
        restore::page,
        restore::again,
        restore::recover,
        events::events,
    ]
}

/// What is answered where no route answers.
pub fn catchers() -> Vec<Catcher> {
    catchers![nothing_here, too_large, anything]
}

#[catch(404)]
fn nothing_here() -> Page {
    Page::nothing_here()
}

#[catch(413)]
fn too_large() -> Page {
    Page::too_large(None, None)
}

#[catch(default)]
fn anything(status: Status, _: &Request<'_>) -> Page {
    if status.class().is_server_error() {
        Page::broken("The page could not be made.")
    } else {
        Page::not_understood(status)
    }
}
