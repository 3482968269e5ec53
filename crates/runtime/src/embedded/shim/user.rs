//! Who a container runs as: names are looked up in the image's own files, which are not trusted.

use super::{ShimError, root::lines};

/// The numbers of a user, and where its home is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct User {
    pub(super) user: u32,
    pub(super) group: u32,
    /// Groups it is in besides.
    pub(super) others: Vec<u32>,
    pub(super) home: String,
}

/// The most groups of one user.
const MAX_GROUPS: usize = 1_024;

/// Finds a user by `user`, `uid`, `user:group` or `uid:gid`; nothing means root. `passwd` and `groups` are the
/// contents of `/etc/passwd` and `/etc/group`.
///
/// As with other engines, a number needs no line; a user whose group is given is in no other group.
pub(super) fn find(wanted: &str, passwd: &[u8], groups: &[u8]) -> Result<User, ShimError> {
    let (name, group) = match wanted.split_once(':') {
        Some((name, group)) => (name, Some(group)),
        None => (wanted, None),
    };
    let name = if name.is_empty() { "0" } else { name };
    let number = id(name);
    let account = lines(passwd).filter_map(Account::parse).find(|account| {
        // A name may consist of digits; the number is meant then.
        number.map_or_else(|| account.name == name, |number| account.user == number)
    });
    let Some(user) = number.or_else(|| account.as_ref().map(|account| account.user)) else {
        return Err(ShimError::cannot_start(format!("the image knows no user {name:?}")));
    };
    let home = account.as_ref().map_or("", |account| &account.home);
    let home = if home.starts_with('/') { home.to_owned() } else { "/".to_owned() };
    let Some(group) = group.filter(|group| !group.is_empty()) else {
        let group = account.as_ref().map_or(0, |account| account.group);
        let others = account.map_or_else(Vec::new, |account| others(&account.name, groups));
        return Ok(User { user, group, others, home });
    };
    let known = || lines(groups).filter_map(Group::parse).find(|known| known.name == group);
    let found = id(group).or_else(|| known().map(|known| known.number));
    let group = found
        .ok_or_else(|| ShimError::cannot_start(format!("the image knows no group {group:?}")))?;
    Ok(User { user, group, others: Vec::new(), home })
}

fn others(name: &str, groups: &[u8]) -> Vec<u32> {
    let of = lines(groups).filter_map(Group::parse);
    let of = of.filter(|group| group.members.split(',').any(|member| member == name));
    of.map(|group| group.number).take(MAX_GROUPS).collect()
}

/// A number that can be a user's or a group's: the largest means "none" to the kernel.
fn id(text: &str) -> Option<u32> {
    text.parse().ok().filter(|number| *number != u32::MAX)
}

/// A line `name:password:uid:gid:comment:home:shell`.
struct Account {
    name: String,
    user: u32,
    group: u32,
    home: String,
}

impl Account {
    fn parse(line: String) -> Option<Self> {
        let mut fields = line.split(':');
        let name = fields.next()?.to_owned();
        let (user, group) = (id(fields.nth(1)?)?, id(fields.next()?)?);
        let home = fields.nth(1).unwrap_or_default().to_owned();
        Some(Self { name, user, group, home })
    }
}

/// A line `name:password:gid:members`.
struct Group {
    name: String,
    number: u32,
    members: String,
}

impl Group {
    fn parse(line: String) -> Option<Self> {
        let mut fields = line.split(':');
        let name = fields.next()?.to_owned();
        let number = id(fields.nth(1)?)?;
        Some(Self { name, number, members: fields.next().unwrap_or_default().to_owned() })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PASSWD: &[u8] = b"root:x:0:0:root:/root:/bin/sh\n\
        nonsense\n\
        web:x:33:34:web:/srv/web:/bin/false\n\
        broken:x:99999999999:0::/:\n\
        relative:x:40:41::home:\n\
        7:x:50:51::/seven:\n";
    const GROUPS: &[u8] =
        b"root:x:0:\nweb:x:34:\nlog:x:60:other,web\nssl:x:61:web\nkeep:x:62:webmaster\n";

    fn found(wanted: &str) -> (u32, u32, Vec<u32>, String) {
        let User { user, group, others, home } = find(wanted, PASSWD, GROUPS).unwrap();
        (user, group, others, home)
    }

    #[test]
    fn names_are_looked_up_with_all_their_groups() {
        assert_eq!(found("web"), (33, 34, vec![60, 61], "/srv/web".to_owned()));
        assert_eq!(found(""), (0, 0, vec![], "/root".to_owned()));
        assert_eq!(found("relative").3, "/");
    }

    #[test]
    fn a_given_group_is_the_only_one() {
        assert_eq!(found("web:ssl"), (33, 61, vec![], "/srv/web".to_owned()));
        assert_eq!(found("33:77"), (33, 77, vec![], "/srv/web".to_owned()));
        assert_eq!(found(":ssl"), (0, 61, vec![], "/root".to_owned()));
    }

    #[test]
    fn numbers_need_no_line() {
        assert_eq!(found("1234"), (1_234, 0, vec![], "/".to_owned()));
        assert_eq!(found("33"), (33, 34, vec![60, 61], "/srv/web".to_owned()));
        assert_eq!(found("7").0, 7, "the number, not the name");
        assert_eq!(find("5:6", b"", b"").unwrap().group, 6);
    }

    #[test]
    fn who_is_not_there_is_refused() {
        for wanted in ["nobody", "broken", "web:nothing", "4294967295", "5:4294967295", "-1"] {
            assert!(find(wanted, PASSWD, GROUPS).is_err(), "{wanted}");
        }
    }
}
