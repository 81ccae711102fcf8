"""What a registry promises, over SQLite and PostgreSQL alike."""

from __future__ import annotations

import threading
from collections.abc import Callable
from datetime import UTC, datetime, timedelta

import pytest

from watermark.commitments.log import next_entry
from watermark.config import preset
from watermark.errors import ConfigError, RegistryError
from watermark.keyring.labels import KeyLabels
from watermark.keys import SecretKey
from watermark.registry.counting import Tally
from watermark.registry.records import Exchanges, KeyFilter
from watermark.registry.registry import Registry

MASTER = SecretKey(bytes(range(32)))
OTHER = SecretKey(bytes(range(1, 33)))
CONFIG = preset("default")
LABELS = KeyLabels("smollm2", "2026-11", "c1", "a-1")


def _accounts(n: int, epoch: str = "2026-11") -> list[KeyLabels]:
    return [KeyLabels("smollm2", epoch, f"c{i % 3}", f"a-{i}") for i in range(n)]


def test_an_issued_key_is_found_again(registry: Registry, made: str) -> None:
    before = datetime.now(UTC)
    key = registry.issue(LABELS, MASTER, CONFIG)
    assert key == LABELS.key_from(MASTER)
    with Registry.open(made) as again:
        found = again.key(key.key_id)
        assert again.keys_of(LABELS) == [found]
        assert again.config(found.config) == CONFIG
    assert (found.key_id, found.master_key_id, found.labels) == (
        key.key_id, MASTER.key_id, LABELS,
    )  # fmt: skip
    assert found.state == "active"
    assert before - timedelta(seconds=1) <= found.issued_at <= datetime.now(UTC)
    assert found.served == Exchanges(0, 0)
    assert found.commitment is None


def test_labels_are_looked_up_exactly(registry: Registry) -> None:
    registry.issue(LABELS, MASTER, CONFIG)
    assert registry.keys_of(LABELS._replace(purpose="p")) == []
    assert registry.keys_of(KeyLabels(account="a-1")) == []
    with pytest.raises(RegistryError, match="knows no key 'hm1-00'"):
        registry.key("hm1-00")
    with pytest.raises(RegistryError, match="knows no config"):
        registry.config("sha256:00")


def test_issuing_twice_issues_once(registry: Registry) -> None:
    first = registry.issue(LABELS, MASTER, CONFIG)
    issued = registry.key(first.key_id)
    assert registry.issue(LABELS, MASTER, CONFIG) == first
    assert list(registry.keys()) == [issued]


def test_a_key_has_one_config(registry: Registry) -> None:
    """Text under one config is not found with another, and the registry says which it was."""
    registry.issue(LABELS, MASTER, CONFIG)
    with pytest.raises(RegistryError, match="issued with the config sha256"):
        registry.issue(LABELS, MASTER, preset("gumbel"))
    assert [registry.config(key.config) for key in registry.keys()] == [CONFIG]


def test_one_account_under_two_masters(registry: Registry) -> None:
    registry.issue(LABELS, MASTER, CONFIG)
    registry.issue(LABELS, OTHER, CONFIG)
    assert [key.master_key_id for key in registry.keys_of(LABELS)] == [MASTER.key_id, OTHER.key_id]
    assert registry.labels() == [LABELS]
    assert registry.labels(master_key_id=OTHER.key_id) == [LABELS]
    assert registry.labels(master_key_id="hm1-none") == []


def test_an_import_counts_what_it_did(registry: Registry) -> None:
    accounts = _accounts(50)
    registry.issue(accounts[7], MASTER, CONFIG)
    done = registry.import_keys([*accounts, accounts[3]], MASTER, CONFIG)
    assert done == (49, 1, 1, 0)
    assert registry.import_keys(accounts, MASTER, CONFIG) == (0, 50, 0, 0)
    assert set(registry.labels()) == set(accounts)
    assert registry.names("cohort") == ["c1", "c0", "c2"]
    assert len(registry.names("account")) == 50


def test_a_failed_import_writes_nothing(registry: Registry) -> None:
    registry.issue(LABELS, MASTER, preset("gumbel"))
    with pytest.raises(RegistryError, match="issued with the config"):
        registry.import_keys([*_accounts(9), LABELS], MASTER, CONFIG)
    with pytest.raises(RegistryError, match="begins or ends with a blank"):
        registry.import_keys([*_accounts(9), KeyLabels(account=" x")], MASTER, CONFIG)
    with pytest.raises(RegistryError, match="no accounts"):
        registry.import_keys([], MASTER, CONFIG)
    assert registry.labels() == [LABELS]
    assert registry.names("account") == ["a-1"]


def test_an_account_changes_its_cohort_only_when_told(registry: Registry) -> None:
    moved = LABELS._replace(cohort="c2")
    old = registry.issue(LABELS, MASTER, CONFIG)
    with pytest.raises(RegistryError, match=r"in another cohort .*--move"):
        registry.issue(moved, MASTER, CONFIG)
    new = registry.issue(moved, MASTER, CONFIG, move=True)
    assert registry.key(old.key_id).state == "retired"
    assert registry.key(old.key_id).retired_reason == "moved to another cohort"
    assert registry.key(new.key_id).state == "active"
    # Both marked text, so that both are searched.
    assert registry.labels(account="a-1") == [LABELS, moved]
    with pytest.raises(RegistryError, match="was retired, and is not issued again"):
        registry.issue(LABELS, MASTER, CONFIG, move=True)


def test_a_move_by_import(registry: Registry) -> None:
    registry.import_keys(_accounts(6), MASTER, CONFIG)
    changed = [labels._replace(cohort="new") for labels in _accounts(4)]
    with pytest.raises(RegistryError, match="4 accounts have an active key"):
        registry.import_keys(changed, MASTER, CONFIG)
    assert registry.import_keys(changed, MASTER, CONFIG, move=True) == (4, 0, 0, 4)
    assert registry.n_keys() == {"active": 6, "retired": 4}
    twice = [LABELS._replace(account="b", cohort=cohort) for cohort in ("x", "y")]
    with pytest.raises(RegistryError, match="two cohorts of one epoch"):
        registry.import_keys(twice, MASTER, CONFIG, move=True)


def test_other_epochs_models_and_masters_are_no_move(registry: Registry) -> None:
    registry.issue(LABELS, MASTER, CONFIG)
    elsewhere = LABELS._replace(cohort="c9")
    registry.issue(elsewhere._replace(epoch="2026-12"), MASTER, CONFIG)
    registry.issue(elsewhere._replace(model="other"), MASTER, CONFIG)
    registry.issue(elsewhere._replace(purpose="audit"), MASTER, CONFIG)
    registry.issue(elsewhere, OTHER, CONFIG)
    assert registry.n_keys() == {"active": 5}


def test_keys_without_account_are_many_in_one_epoch(registry: Registry) -> None:
    for cohort in ("c1", "c2", ""):
        registry.issue(KeyLabels("smollm2", "2026-11", cohort), MASTER, CONFIG)
    assert registry.n_keys() == {"active": 3}


def test_rotation(registry: Registry) -> None:
    accounts = _accounts(5)
    registry.import_keys(accounts, MASTER, CONFIG)
    registry.issue(KeyLabels("other", "2026-11", account="a-1"), MASTER, CONFIG)
    registry.issue(accounts[0], OTHER, CONFIG)
    registry.revoke(KeyFilter(account="a-4"), "leaked")
    assert _rotated(registry) == (4, 4)
    assert registry.labels(epoch="2026-12") == _accounts(4, "2026-12")
    states = {(key.master_key_id, *key.labels): key.state for key in registry.keys()}
    assert states[MASTER.key_id, *accounts[0]] == "retired"
    assert states[MASTER.key_id, *accounts[4]] == "revoked"
    assert states[OTHER.key_id, *accounts[0]] == "active"
    assert sorted(states.values()) == ["active"] * 6 + ["retired"] * 4 + ["revoked"]
    renewed = registry.keys_of(accounts[0]._replace(epoch="2026-12"))[0]
    assert renewed.key_id == renewed.labels.key_from(MASTER).key_id
    assert registry.config(renewed.config) == CONFIG


def _rotated(registry: Registry, old: str = "2026-11", new: str = "2026-12") -> tuple[int, ...]:
    return registry.rotate(MASTER, model="smollm2", old_epoch=old, new_epoch=new)


def test_what_cannot_be_rotated(registry: Registry) -> None:
    registry.import_keys(_accounts(3), MASTER, CONFIG)
    with pytest.raises(RegistryError, match="no active key"):
        registry.rotate(OTHER, model="smollm2", old_epoch="2026-11", new_epoch="2026-12")
    with pytest.raises(RegistryError, match="is the old one"):
        _rotated(registry, new="2026-11")
    assert _rotated(registry) == (3, 3)
    with pytest.raises(RegistryError, match="no active key"):
        _rotated(registry)
    with pytest.raises(RegistryError, match="retired already; rotate to a new one"):
        _rotated(registry, "2026-12", "2026-11")
    assert registry.n_keys() == {"active": 3, "retired": 3}


def test_rotation_respects_what_the_new_epoch_has(registry: Registry) -> None:
    """Issued early, moved to another cohort, revoked: such accounts keep what they have."""
    registry.import_keys(_accounts(4), MASTER, CONFIG)
    early = _accounts(4, "2026-12")
    registry.issue(early[0], MASTER, CONFIG)
    registry.issue(early[1]._replace(cohort="new"), MASTER, CONFIG)
    registry.issue(early[2], MASTER, CONFIG)
    registry.revoke(KeyFilter(epoch="2026-12", account="a-2"), "leaked")
    assert _rotated(registry) == (1, 4)
    states = {key.labels: key.state for key in registry.keys(KeyFilter(epoch="2026-12"))}
    assert states == {
        early[0]: "active", early[1]._replace(cohort="new"): "active",
        early[2]: "revoked", early[3]: "active",
    }  # fmt: skip


def test_rotation_to_another_config(registry: Registry) -> None:
    registry.import_keys(_accounts(2), MASTER, CONFIG)
    registry.rotate(
        MASTER, model="smollm2", old_epoch="2026-11", new_epoch="2026-12", config=preset("gumbel")
    )
    configs = [registry.config(key.config) for key in registry.keys()]
    assert configs == [CONFIG, CONFIG, preset("gumbel"), preset("gumbel")]


def test_old_keys_stay_searchable(registry: Registry) -> None:
    registry.import_keys(_accounts(3), MASTER, CONFIG)
    assert registry.retire(KeyFilter(account="a-1"), " closed ") == 1
    assert registry.revoke(KeyFilter(account="a-2"), "posted on a forum") == 1
    assert registry.revoke(KeyFilter(account="a-1"), "too") == 1
    assert registry.labels() == _accounts(3)
    assert registry.labels(state="active") == _accounts(1)
    assert registry.labels(cohort="c1", state="revoked") == [_accounts(2)[1]]
    key = registry.keys_of(LABELS)[0]
    assert (key.state, key.retired_reason, key.revoked_reason) == ("revoked", "closed", "too")
    assert key.retired_at is not None
    assert key.revoked_at is not None
    assert key.issued_at <= key.retired_at <= key.revoked_at
    with pytest.raises(RegistryError, match="was revoked, and is not issued again"):
        registry.issue(LABELS, MASTER, CONFIG)


def test_out_of_service_by_key_id(registry: Registry) -> None:
    keys = [registry.issue(labels, MASTER, CONFIG) for labels in _accounts(2)]
    assert registry.retire(KeyFilter(key_id=keys[0].key_id), "x") == 1
    with pytest.raises(RegistryError, match="no active key is like that"):
        registry.retire(KeyFilter(key_id=keys[0].key_id), "x")
    assert registry.n_keys() == {"active": 1, "retired": 1}


def test_all_keys_are_never_meant_by_accident(registry: Registry) -> None:
    registry.issue(LABELS, MASTER, CONFIG)
    for wanted in (KeyFilter(), KeyFilter(state="active"), KeyFilter(account="")):
        for change in (registry.retire, registry.revoke):
            with pytest.raises(RegistryError, match="say which keys"):
                change(wanted, "x")
    assert registry.n_keys() == {"active": 1}


def test_without_a_reason_nothing_changes(registry: Registry) -> None:
    registry.issue(LABELS, MASTER, CONFIG)
    for change in (registry.retire, registry.revoke):
        with pytest.raises(RegistryError, match="a reason has"):
            change(KeyFilter(account="a-1"), " ")
    assert registry.n_keys() == {"active": 1}


def test_an_unknown_state_is_refused(registry: Registry) -> None:
    with pytest.raises(RegistryError, match="unknown state 'gone'; expected active"):
        registry.labels(state="gone")


def test_counts_add_up(registry: Registry) -> None:
    ids = [registry.issue(labels, MASTER, CONFIG).key_id for labels in _accounts(3)]
    registry.count({ids[0]: Exchanges(2, 300), ids[1]: Exchanges(1, 50)})
    registry.count({ids[0]: Exchanges(30_000_000, 10**12)})
    registry.count({})
    first, second, third = registry.keys()
    assert first.served == (30_000_002, 10**12 + 300)
    assert second.served == (1, 50)
    assert third.served == (0, 0)
    assert first.served_from is not None
    assert first.served_until is not None
    assert first.issued_at <= first.served_from < first.served_until
    assert third.served_from is None


def test_a_batch_with_an_unknown_key_counts_nothing(registry: Registry) -> None:
    key_id = registry.issue(LABELS, MASTER, CONFIG).key_id
    with pytest.raises(RegistryError, match="2 key ids were never issued, for example 'hm1-01'"):
        registry.count(
            {key_id: Exchanges(1, 1), **dict.fromkeys(("hm1-02", "hm1-01"), Exchanges(1, 1))}
        )
    assert registry.key(key_id).served == (0, 0)


def test_counts_that_are_none(registry: Registry) -> None:
    key_id = registry.issue(LABELS, MASTER, CONFIG).key_id
    for count in ((-1, 0), (0, -1), (10**15 + 1, 0), (True, 0), (1.0, 2)):
        with pytest.raises(RegistryError, match="integers from 0 to"):
            registry.count({key_id: Exchanges(*count)})  # type: ignore[arg-type]
    assert registry.key(key_id).served == (0, 0)


def test_a_tally_hands_on_its_sums(registry: Registry) -> None:
    ids = [registry.issue(labels, MASTER, CONFIG).key_id for labels in _accounts(2)]
    tally = Tally(registry.count)
    for i in range(5):
        tally.add(ids[i % 2], 10 + i)
    assert registry.key(ids[0]).served == (0, 0)
    tally.flush()
    tally.flush()
    assert [key.served for key in registry.keys()] == [(3, 36), (2, 24)]


def test_a_tally_keeps_what_could_not_be_written() -> None:
    written: list[dict[str, Exchanges]] = []

    def write(counts: object) -> None:
        assert isinstance(counts, dict)
        if not written:
            written.append({})
            raise RegistryError("away")
        written.append(dict(counts))

    tally = Tally(write)
    tally.add("hm1-1", 5)
    with pytest.raises(RegistryError, match="away"):
        tally.flush()
    tally.add("hm1-1", 6)
    tally.flush()
    assert written[1:] == [{"hm1-1": (2, 11)}]


def test_a_key_shows_its_commitment(registry: Registry) -> None:
    key = registry.issue(LABELS, MASTER, CONFIG)
    entry = next_entry(None, key.key_id, "sha256:" + "0" * 64, datetime.now(UTC))
    registry.record_commitment(entry)
    registry.record_commitment(entry)
    noted = registry.key(key.key_id).commitment
    assert noted == (entry.commitment, 0, entry.time)
    assert registry.commitment(key.key_id) == noted
    other = next_entry(entry, key.key_id, "sha256:" + "1" * 64, datetime.now(UTC))
    with pytest.raises(RegistryError, match="another commitment"):
        registry.record_commitment(other)
    registry.record_commitment(next_entry(None, MASTER.key_id, entry.commitment, entry.time))
    assert registry.commitment(MASTER.key_id) is not None
    assert registry.commitment("hm1-none") is None


GOOD = ["Ärzte & Söhne", "账户-七", "a/b\\c'd\"e;--", "x" * 200, "%s {0} :name", "🜁", "0"]


def test_names_of_all_scripts(registry: Registry) -> None:
    for name in GOOD:
        labels = KeyLabels("m", name, name, name, name)
        key = registry.issue(labels, MASTER, CONFIG)
        assert registry.key(key.key_id).labels == labels
        assert [found.key_id for found in registry.keys_of(labels)] == [key.key_id]
        assert registry.labels(account=name) == [labels]


def test_a_name_that_cannot_be_taken_is_not_written(registry: Registry) -> None:
    with pytest.raises(RegistryError, match="cannot be seen or stored"):
        registry.issue(KeyLabels(account="a\0b"), MASTER, CONFIG)
    with pytest.raises(RegistryError, match="NFC"):
        registry.rotate(MASTER, model="", old_epoch="a", new_epoch="e\u0301")
    assert registry.n_keys() == {}
    assert registry.names("account") == []


def test_writers_at_the_same_time(made: str) -> None:
    """Four writers with connections of their own, on the same accounts: each key once."""
    errors: list[BaseException] = []
    accounts = _accounts(40)

    def write(number: int) -> None:
        with Registry.open(made) as registry:
            for labels in accounts[number * 5 :] + accounts[: number * 5]:
                key = registry.issue(labels, MASTER, CONFIG)
                registry.count({key.key_id: Exchanges(1, number)})

    _together(write, errors)
    assert errors == []
    with Registry.open(made) as registry:
        assert sorted(registry.labels()) == sorted(accounts)
        assert {key.served for key in registry.keys()} == {Exchanges(4, 6)}


def test_imports_at_the_same_time(made: str) -> None:
    """One of two may be told to try again; nothing is lost, and nothing is there twice."""
    errors: list[BaseException] = []
    accounts = _accounts(400)

    def write(number: int) -> None:
        with Registry.open(made) as registry:
            registry.import_keys(accounts[number * 20 :], MASTER, CONFIG)

    with Registry.open(made) as registry:
        # Otherwise they would wait for each other over the config.
        registry.issue(accounts[0], MASTER, CONFIG)
    _together(write, errors)
    assert all("run it again" in str(error) for error in errors), errors
    assert len(errors) < 4
    with Registry.open(made) as registry:
        registry.import_keys(accounts, MASTER, CONFIG)
        assert set(registry.labels()) == set(accounts)
        assert registry.n_keys() == {"active": 400}


def _together(write: Callable[[int], None], errors: list[BaseException]) -> None:
    def guarded(number: int) -> None:
        try:
            write(number)
        except BaseException as error:
            errors.append(error)

    threads = [threading.Thread(target=guarded, args=(i,)) for i in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()


def test_reading_while_writing(registry: Registry) -> None:
    registry.import_keys(_accounts(10), MASTER, CONFIG)
    seen = 0
    for key in registry.keys():
        registry.count({key.key_id: Exchanges(1, 1)})
        seen += 1
    assert seen == 10
    assert {key.served for key in registry.keys()} == {(1, 1)}


def test_labels_without_any_are_refused(registry: Registry) -> None:
    with pytest.raises((RegistryError, ConfigError), match="at least one"):
        registry.issue(KeyLabels(), MASTER, CONFIG)
