//! Called by another name: an init script for one service.

use super::twin;

#[test]
fn its_codes_are_those_of_lsb() {
    let script = r#"
        ln -s "$(command -v sv)" web; service sv/web 'trap "" HUP; exec sleep 1000'; touch sv/web/down
        tell ./web status; supervise sv/web down
        tell ./web status; tell ./web start; tell ./web status; tell ./web stop; tell ./web status
        tell ./web; tell ./web st; tell ./web s; tell ./web zz; tell ./web -x; ./web -V 2>version; echo $?; sed 1d version; tell ./web -w
        tell ./web up more words; is_now sv/web run; next_second; tell ./web restart; next_second; tell ./web force-reload
        tell ./web -v status; next_second; tell ./web try-restart; tell ./web reload; tell ./web check; tell ./web -w 5 start a b c
        rm sv/web/down; ln -s down sv/web/down; tell ./web status; tell ./web start; rm sv/web/down
        tell ./web shutdown; tell ./web shutdown; tell ./web status; tell ./web start
        rm -r sv/web; tell ./web status; tell ./web start
    "#;
    twin(script);
}

#[test]
fn unreadable_is_unknown() {
    let script = r#"
        ln -s "$(command -v sv)" web; service sv/web; supervise sv/web
        mv sv/web/supervise/status kept; tell ./web status; echo short >sv/web/supervise/status; tell ./web status
        mv kept sv/web/supervise/status; tell ./web status; mv sv/web/supervise/ok kept; tell ./web status; mkdir sv/web/supervise/ok; tell ./web status
    "#;
    twin(script);
}

#[test]
fn the_log_decides_the_code_of_status() {
    let script = r#"
        ln -s "$(command -v sv)" web; service sv/web; service sv/web/log 'exec cat'; supervise sv/web; is_now sv/web/log run
        tell ./web status; tell ./web stop; tell ./web status; sv d web/log; is_now sv/web/log down; tell ./web status
        tell ./web start; tell ./web status; mv sv/web/log kept; : >sv/web/log; tell ./web status
        rm sv/web/log; mkdir -p sv/web/log/supervise; mkfifo sv/web/log/supervise/ok; tell ./web status; ./web stop >/dev/null; tell ./web status
    "#;
    twin(script);
}

#[test]
fn any_chain_of_links_and_any_way_of_calling() {
    let script = r#"
        service sv/web; supervise sv/web; mkdir -p rc/init.d rc/rc2.d links bin
        ln -s "$(command -v sv)" links/tool; ln -s ../../links/tool rc/init.d/web; ln -s ../init.d/web rc/rc2.d/S20web
        tell rc/init.d/web status; tell rc/rc2.d/S20web status
        ln -s rc/init.d through; tell ./through/web status; tell through/web status
        PATH=$PWD/rc/init.d:$PATH; tell web status; cd rc; PATH=/bin:/usr/bin:init.d; tell web status
        cd init.d; PATH=/bin:/usr/bin:; tell web status; PATH=:/usr/bin:/bin; tell web status; PATH=.:/usr/bin:/bin; tell web status
        ln -s web sv; tell ./sv status web
    "#;
    twin(script);
}

/// dash can't set argv[0]; env(1) and bash can.
#[test]
fn an_argv0_that_names_no_file_is_the_services_name() {
    let script = r#"
        service sv/web; supervise sv/web; PATH=$PATH:$PWD/bin; mkdir bin; : >bin/web; chmod +x bin/web
        call() { bash -c 'exec -a "$@"' - "$@"; echo "=> $?"; }
        sv=$(command -v sv); call web "$sv" status; call no/where/web "$sv" status; call web sv start; call none sv status
        ln -s "$sv" init; call web ./init status; call web sv; call ./web/ sv status; call '' sv status
    "#;
    if crate::live::world::lacks("bash") {
        return;
    }
    twin(script);
}

#[test]
fn no_way_into_or_back_to_the_callers_directory_is_fatal() {
    if crate::live::world::needs_root() {
        return;
    }
    let script = r#"
        ln -s "$(command -v sv)" /tmp/sv-$$; service sv/a; supervise sv/a; mkdir -m 0711 closed; cd closed
        tell setpriv --reuid=65534 --clear-groups sv status a
        tell setpriv --reuid=65534 --clear-groups /tmp/sv-$$ status 2>&1 | sed "s/sv-$$/script/"; rm /tmp/sv-$$
        cd ..; chmod 755 sv sv/a; tell setpriv --reuid=65534 --clear-groups sv status a; tell setpriv --reuid=65534 --clear-groups sv -v up a
        chmod 755 sv/a/supervise; tell setpriv --reuid=65534 --clear-groups sv status a
        chmod 666 sv/a/supervise/ok; tell setpriv --reuid=65534 --clear-groups sv status a; tell setpriv --reuid=65534 --clear-groups sv t a
        tell setpriv --reuid=65534 --clear-groups sv -w 0 start a; chmod 700 sv/a; tell setpriv --reuid=65534 --clear-groups sv exit a
    "#;
    twin(script);
}
