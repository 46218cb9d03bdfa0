"""The rules of --auth: the first that fits counts; trust is for this machine only."""

from __future__ import annotations

import pytest

from streamsql.base.errors import AuthorizationError
from streamsql.pgwire.auth import Asked, method_for
from streamsql.pgwire.rules import DEFAULT_RULES, Method, RuleError, read_rules

ANN = Asked("ann", "streamsql")


@pytest.mark.parametrize(
    ("rules", "address", "tls", "method"),
    [
        (DEFAULT_RULES, "127.0.0.1", False, Method.TRUST), (DEFAULT_RULES, "::1", False, Method.TRUST),
        (DEFAULT_RULES, "10.1.2.3", False, Method.SCRAM), (DEFAULT_RULES, "fe80::1%eth0", True, Method.SCRAM),
        ("scram all", "127.0.0.1", False, Method.SCRAM),
        ("cert 10.0.0.0/8 tls, scram all tls", "10.1.2.3", True, Method.CERT),
        ("cert 10.0.0.0/8, scram all", "10.1.2.3", False, Method.SCRAM),  # a certificate takes encryption
        ("cert 10.0.0.0/8, scram all", "::ffff:10.1.2.3", True, Method.CERT),
        ("cert 2001:db8::/32, scram all", "2001:db8::7", True, Method.CERT),
        ("trust 127.0.0.1 plain\nscram all # the rest", "127.0.0.1", False, Method.TRUST),
        ("trust 127.0.0.1 plain\nscram all # the rest", "127.0.0.1", True, Method.SCRAM),
        ("reject 10.0.0.66, scram all", "10.0.0.6", False, Method.SCRAM),
    ],
)  # fmt: skip
def test_the_first_rule_that_fits_counts(rules: str, address: str, tls: bool, method: Method):
    assert method_for(read_rules(rules), ANN, address, tls=tls, tls_required=False) is method


@pytest.mark.parametrize(
    ("rules", "tls", "required", "message"),
    [
        ("reject 10.0.0.0/8, scram all", True, False,
         'authentication rule rejects connection for host "10.0.0.6", user "ann", database "streamsql", SSL encryption'),
        ("scram all tls", False, False,
         'no authentication rule for host "10.0.0.6", user "ann", database "streamsql", no encryption'),
        ("trust loopback", True, False,
         'no authentication rule for host "10.0.0.6", user "ann", database "streamsql", SSL encryption'),
        ("scram all", False, True,
         'no authentication rule for host "10.0.0.6", user "ann", database "streamsql", no encryption'),
    ],
)  # fmt: skip
def test_who_fits_no_rule_is_refused(rules: str, tls: bool, required: bool, message: str):
    with pytest.raises(AuthorizationError) as refused:
        method_for(read_rules(rules), ANN, "10.0.0.6", tls=tls, tls_required=required)
    assert (refused.value.message, refused.value.sqlstate, refused.value.severity) == (message, "28000", "FATAL")


@pytest.mark.parametrize(
    ("rules", "message"),
    [
        ("", "there is no authentication rule"),
        ("# nothing", "there is no authentication rule"),
        ("md5 all", "authentication rule 'md5 all': the method must be one of trust, scram, cert, reject"),
        ("scram", "authentication rule 'scram' must be: METHOD ADDRESS [tls|plain]"),
        ("scram all maybe", "authentication rule 'scram all maybe' must be: METHOD ADDRESS [tls|plain]"),
        ("trust all", "authentication rule 'trust all': trust is for addresses of this machine only"),
        ("trust 10.0.0.1", "authentication rule 'trust 10.0.0.1': trust is for addresses of this machine only"),
        ("trust 0.0.0.0/0", "authentication rule 'trust 0.0.0.0/0': trust is for addresses of this machine only"),
        ("trust ::/0", "authentication rule 'trust ::/0': trust is for addresses of this machine only"),
        ("scram 10.0.0.1/8", "authentication rule 'scram 10.0.0.1/8': 10.0.0.1/8 has host bits set"),
    ],
)
def test_a_rule_that_cannot_be_is_told(rules: str, message: str):
    with pytest.raises(RuleError) as wrong:
        read_rules(rules)
    assert str(wrong.value) == message
