//! What a process would read of the gateway's databases, with what lies beside them. Who may read them is not modelled: all
//! may; and nobody holds a lock.

use std::path::Path;

use engine::gateway::account::MailRelay;
use engine::gateway::database::{Client, RowSums, Rows, Shape, Trouble, User, rows};
use engine::host::LiveDatabases;
use journal_format::Problem;

use super::{Sim, failed};

impl Sim {
    /// What is in it; or, where it is no database, why `unreadable`.
    fn lines(
        &self,
        path: &Path,
        unreadable: impl Fn(Problem) -> Trouble,
    ) -> Result<Vec<String>, Trouble> {
        let world = self.looks("read a database")?;
        let shown = path.display().to_string();
        let lines = world.rows(&shown);
        let lines = lines.ok_or_else(|| failed(format!("read {shown}: no such file")))?;
        let why = format!("read the database {shown}: file is not a database");
        let readable = world.readable(&shown).then_some(lines);
        readable.ok_or_else(|| unreadable(failed(why)))
    }
}

impl LiveDatabases for Sim {
    fn clients(&self, path: &Path) -> Result<Vec<Client>, Trouble> {
        let client = |line: &String| {
            let (name, status) = line.strip_prefix("client ")?.split_once(' ')?;
            Some(Client {
                name: name.to_owned(),
                config_path: String::new(),
                subnet: String::new(),
                status: status.to_owned().into(),
            })
        };
        let lines = self.lines(path, Trouble::Failed)?;
        Ok(lines.iter().filter_map(client).collect())
    }

    fn rows(&self, path: &Path) -> Result<Rows, Trouble> {
        Ok(rows(&self.clients(path)?))
    }

    /// No database here has users.
    fn users(&self, path: &Path) -> Result<Vec<User>, Trouble> {
        self.lines(path, Trouble::Failed).map(|_| Vec::new())
    }

    fn mail_relay(&self, path: &Path) -> Result<Option<MailRelay>, Trouble> {
        self.lines(path, Trouble::Unreadable).map(|_| None)
    }

    /// Nobody compares rows here: every database is taken to differ.
    fn row_sums(&self, path: &Path) -> Result<RowSums, Trouble> {
        let why = format!("tell the rows of {}", path.display());
        Err(failed(why).into())
    }

    fn shape(&self, path: &Path) -> Result<Shape, Trouble> {
        let why = format!("tell the tables of {}: it has none", path.display());
        Err(failed(why).into())
    }

    fn may_be_opened(&self, path: &Path) -> Result<(), Problem> {
        match self.looks("look at a database")?.disk.get(path) {
            Some(_) => Ok(()),
            None => Err(failed(format!("open {}: no such file", path.display()))),
        }
    }

    fn may_be_copied(&self, _: &Path) -> Result<(), Problem> {
        self.looks("look at the spool").map(drop)
    }
}
