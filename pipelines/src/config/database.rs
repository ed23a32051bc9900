//! A database of PostgreSQL.

use std::fmt;
use std::path::Path;
use std::time::Duration;

use tokio_postgres::Config;
use tokio_postgres::config::Host;

use super::value::authorities;

/// Where a database is, and who logs in. `Debug` and `Display` show no secret.
#[derive(Clone, PartialEq, Eq)]
pub struct Database {
    /// The parameters of the connection.
    pub connection: Config,
    /// Certificates that are trusted instead of the system's.
    pub authorities: Option<Vec<u8>>,
}

/// The form of an address.
const FORM: &str = "the form is postgresql://USER:PASSWORD@HOST:PORT/DATABASE, with ?sslmode=disable \
                    or ?sslmode=require where that is wanted; other than letters and digits are \
                    written as % and two hexadecimal digits";

/// How long a server may take to answer, where the address does not say.
const CONNECT: Duration = Duration::from_secs(5);

impl Database {
    /// Reads an address. The error never holds a part of it.
    ///
    /// # Errors
    /// It is none.
    pub fn parse(url: &str) -> Result<Self, String> {
        let is_url = ["postgresql://", "postgres://"].iter().any(|scheme| url.starts_with(scheme));
        let parsed = url.parse::<Config>().ok().filter(|_| is_url);
        let mut connection = parsed.ok_or(FORM)?;
        if connection.get_hosts().is_empty() || connection.get_user().is_none() {
            return Err(format!("it has no host or no user: {FORM}"));
        }
        if connection.get_connect_timeout().is_none() {
            connection.connect_timeout(CONNECT);
        }
        if connection.get_application_name().is_none() {
            connection.application_name("vehicle-count");
        }
        Ok(Self { connection, authorities: None })
    }

    /// Trusts the certificates in a file, and no others.
    ///
    /// # Errors
    /// There are none in it.
    pub fn trust(&mut self, file: &Path) -> Result<(), String> {
        self.authorities = Some(authorities(file)?);
        Ok(())
    }
}

impl fmt::Display for Database {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let ports = self.connection.get_ports();
        let hosts = self.connection.get_hosts().iter().enumerate().map(|(index, host)| {
            let port = ports.get(index).or(ports.first()).copied().unwrap_or(5432);
            match host {
                Host::Tcp(host) if host.contains(':') => format!("[{host}]:{port}"),
                Host::Tcp(host) => format!("{host}:{port}"),
                Host::Unix(folder) => format!("{}:{port}", folder.display()),
            }
        });
        let hosts = hosts.collect::<Vec<_>>().join(",");
        let name = self.connection.get_dbname().or(self.connection.get_user());
        write!(f, "postgresql://***@{hosts}/{}", name.unwrap_or_default())
    }
}

impl fmt::Debug for Database {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn address_of_a_database_is_read_and_shown_without_its_login() {
        for (url, shown) in [
            ("postgresql://me:s3cret@db.example/traffic", "db.example:5432/traffic"),
            ("postgres://me:s3cret@10.0.0.1:5433/a?sslmode=disable", "10.0.0.1:5433/a"),
            ("postgresql://me:s3cret%40x@[::1]/", "[::1]:5432/me"),
            ("postgresql://me:s3cret@one:1,two:2/a", "one:1,two:2/a"),
            ("postgresql://me@%2Frun%2Fpostgresql/a", "/run/postgresql:5432/a"),
        ] {
            let database = Database::parse(url).unwrap_or_else(|error| panic!("{url}: {error}"));
            assert_eq!(format!("{database:?}"), format!("postgresql://***@{shown}"));
        }
    }

    #[test]
    fn wrong_address_of_a_database_is_refused_without_being_repeated() {
        for url in [
            "mysql://me:s3cret@host/a",
            "host=s3cret user=me",
            "postgresql://me:s3cret@host:port/a",
            "postgresql://me:s3cret@host/a?sslmode=s3cret",
            "postgresql://me:s3cret@host/a?s3cret=1",
            "postgresql://host/s3cret",
            "postgresql:///s3cret",
        ] {
            let error = Database::parse(url).unwrap_err();
            assert!(!error.contains("s3cret") && error.contains("postgresql://USER"), "{error}");
        }
    }
}
