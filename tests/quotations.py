"""What README and docs quote, worded from `benchmarks/results`."""

from __future__ import annotations

from collections.abc import Callable
from statistics import median
from typing import Any

__all__ = ["QUOTES", "README"]

Words = Callable[[Any], str]


def _edges(numbers: Any) -> tuple[float, float]:
    return min(numbers), max(numbers)


def _percent(found: Any, *lengths: int) -> str:
    shares = [found[f"{n} tokens"]["right_account_named"] for n in lengths]
    return " / ".join(f"{100 * share:.0f}" for share in shares)


def _difference(found: Any, digits: int = 3, times: float = 1) -> str:
    middle, low, high = (times * found[name] for name in ("mean", "low_95", "high_95"))
    return f"{middle:+.{digits}f} [{low:+.{digits}f}, {high:+.{digits}f}]"


def _pairs(m: Any) -> str:
    return f"{m['default']['tests']['own score']['pairs']:,} (text, fresh key) pairs"


def _largest_rates(m: Any) -> str:
    tests = [test for preset in m.values() for test in preset["tests"].values()]
    levels = zip(*(test["levels"] for test in tests), strict=True)
    rates = [max(level["rate"] for level in row) for row in levels]
    formats = (".4f", ".5f", ".5f", ".2e", ".1e", ".1e")
    words = (format(rate, style) for rate, style in zip(rates, formats, strict=True))
    return ", ".join(words).replace("e-0", "e-")


def _with_reference(m: Any) -> str:
    found = m["gumbel, temperature 0.7"]["with a reference model"]
    return f"{found['fewer_by_mean']:.2f} times fewer"


def _coverage(m: Any) -> str:
    rows = [row for row in m["tables"][0]["shares"] if row["share"] > 0]
    return "covers " + ", ".join(f"{row['coverage']:.3f}" for row in rows)


def _log10_p(m: Any, student: str, access: str, test: str) -> float:
    return float(m["rows"][student][access][test]["log10_p"])


def _by_text(m: Any) -> str:
    ours = _log10_p(m, "real, dual h=2", "text", "ours, contexts counted, public base")
    published = _log10_p(m, "real, dual h=2", "text", "published")
    return f"log10 p {ours:.1f} against {published:.1f}"


def _by_weights(m: Any) -> str:
    return (
        f"without a reference {_log10_p(m, 'real, dual h=2', 'weights', 'ours, no reference'):.1f}"
    )


def _after_attacks(m: Any) -> str:
    students = ("second fine-tune", "quantised", "edited data", "rewritten data")
    found = (_log10_p(m, f"real, {name}", "weights", "ours, clean base") for name in students)
    return "log10 p " + ", ".join(f"{log10_p:.0f}" for log10_p in found)


def _own_tokenizer(m: Any) -> str:
    found = 10 ** _log10_p(m, "small, share 10 %", "weights", "ours, clean base")
    return f"p = {found:.0e} by weights"


def _innocents(m: Any) -> str:
    smallest = min(null["smallest"] for null in m["nulls"].values())
    return f"{'none' if smallest > 1e-6 else 'some'} below 1e-6"


def _serving(m: Any) -> str:
    plain, cut = (m[name]["cpu"]["ratio"] for name in ("temperature 1", "top-p 0.9"))
    return f"temperature 1: {plain:.2f}, top-p 0.9: {cut:.2f}"


def _found_in_vllm(m: Any) -> str:
    rounds = (m[name]["detection"] for name in ("temperature 1", "top-p 0.9"))
    plain, cut = (sum(one["own_below_1e-6"] for one in found) for found in rounds)
    return f"{plain} and {cut} of 256"


def _tool_calls(m: Any) -> str:
    arms = (m[name]["kinds"] for name in ("unmarked", "default", "red-green"))
    valid = (
        sum(kinds[f"tool: {kind}"]["valid"] for kind in ("named", "required")) for kinds in arms
    )
    return f"({', '.join(map(str, valid))} of 124)"


def _skill(m: Any) -> str:
    return f"default {_difference(m['code']['default']['right_less_unmarked'], 1, 100)}"


def _in_code(m: Any) -> str:
    pieces = m["code"]["default"]["pieces"]
    return "code " + " / ".join(f"{100 * pieces[n]['found_at_1e-6']:.0f}" for n in ("100", "400"))


def _accepted(m: Any) -> str:
    found = m["temperature 1.0"]["replayed"]["accepted_to_expected"]
    return f"{found['ratio']:.3f} [{found['low_95']:.3f}, {found['high_95']:.3f}]"


def _step(m: Any, name: str, digits: int = 2) -> str:
    return f"{m['steps'][name]['ratio_to_stock']:.{digits}f}"


def _steps(m: Any) -> str:
    return (
        f"{_step(m, 'ours gumbel, 64 rows')} (in its place), red-green "
        f"+{_step(m, 'ours red-green, 64 rows')}, 30-layer tournament "
        f"+{_step(m, 'ours tournament, 64 rows')}"
    )


def _peers(m: Any) -> str:
    return (
        f"KGW +{_step(m, 'transformers KGW lefthash, 64 rows', 1)}, its SynthID "
        f"+{_step(m, 'transformers SynthID 30 keys, 4 rows', 0)}"
    )


def _fastest(m: Any, mark: str) -> str:
    times = m["times"]["256 x 151936 float32"]
    return f"{min(row['replayed_us'] for name, row in times.items() if name.startswith(mark)):,.0f}"


def _rate(m: Any, mark: str) -> str:
    rounds = [one[mark] for one in m["ids"]["rounds"]]
    return f"{median(one['tokens'] / one['processor_s'] for one in rounds) / 1e6:.1f} M"


def _weak(m: Any) -> str:
    table = m["transformers_synthid_table_most_ones"]["fair_bits"]
    return f"{100 * table['share_at_1e-6']:.0f} % and "


def _right(m: Any) -> str:
    default, gumbel = (
        " / ".join(f"{100 * row['right_account_named']:.0f}" for row in m["right"]["cases"][case])
        for case in ("default, temperature 1", "gumbel, temperature 0.7")
    )
    return f"{default} % of 100 / 300 tokens; gumbel at temperature 0.7: {gumbel} %"


def _searches(m: Any) -> str:
    return f"{m['null']['searches']:,} searches"


def _deep(m: Any) -> str:
    found = [row[name] for row in m["deep"]["levels"][3:] for name in ("hits", "expected")]
    return "({} of {:.0f} expected at 1e-6, {} of {:.1f} at 1e-7)".format(*found)


def _shares(m: Any) -> str:
    found = m["shares"]["all_accounts"]
    return f"cover {100 * found['coverage']:.1f} % of {found['n']:,} shares"


def _collusion(m: Any) -> str:
    def shares(what: str, how: str, replaced: int) -> str:
        case = "{} accounts, 50 tokens in turn, whole, {}% replaced"
        found = (m["collusion"]["cases"][case.format(n, replaced)] for n in (2, 3, 5, 10))
        return ", ".join(f"{100 * row[what][how]:.0f}" for row in found)

    both = "with passages"
    return (
        f"named in {shares('all_guilty_named', both, 0)} % of documents; with a fifth of the "
        f"tokens replaced {shares('guilty_named', both, 20)} % of the guilty (sums alone "
        f"{shares('guilty_named', 'sums alone', 20)}), all of them in "
        f"{shares('all_guilty_named', both, 20)} %"
    )


def _words_a_second(m: Any) -> str:
    found = m["keys"]["cases"]["default, 1 text of 300 tokens"]
    return f"one document {found['words_per_second'] / 1e6:.0f} M"


def _one_cohort(m: Any) -> str:
    found = m["students"]["one cohort"]["weights"]["no counters"]
    more = found["spread"]["concentration"]["log10_p_adjusted"]
    return f'named at log10 p {found["log10_p"]:.1f}, "more than half of the signal" {more:.1f}'


def _outside(m: Any) -> str:
    traffic, plain = (
        100 * m["false_campaigns"][f"BROKEN: {name}"]["0.05"]["called_campaign"]
        for name in ("leak by traffic of 70 %, not counted", "Pareto traces, plain number presumed")
    )
    return f"not counted {traffic:.1f} %, Pareto documents counted by plain number {plain:.1f} %"


def _slots(m: Any) -> str:
    low, high = _edges([row["ratio"] for rows in m["by_effect"].values() for row in rows])
    return f"{low:.1f} to {high:.1f} times as many pairs"


def _found(m: Any) -> str:
    kinds = ("any byte of the bundle", "any byte of any file")
    return f"all of {sum(m[kind]['n_file_named'] for kind in kinds):,} found"


def _timings(m: Any) -> str:
    kinds = ("issue", "look_up_by_key_id", "look_up_by_labels")
    found = [m["timings"]["postgresql"][kind]["median_ms"] for kind in kinds]
    return "PostgreSQL: {:.2f}, {:.2f} ({:.2f}) ms".format(*found)


def _acknowledged(m: Any) -> str:
    places = [place["acknowledged"] for place in m["kills"].values()]
    return f"{sum(n for place in places for n in place.values()):,} acknowledged"


def _two_moments(m: Any) -> str:
    row = next(
        row
        for row in m["two_moment_fit_of_two_keys"]
        if row["two_moment_fit"] == 1e-50 and row["n"] == 50
    )
    return f"{row['fit_too_small_by']:.0f} times too small at 1e-50"


def _detectors(m: Any) -> str:
    rates = m["ids"]["median_tokens_per_processor_s"]
    vllm, theirs = (rates[f"{name}_mark_by_{name}"] for name in ("vllm", "transformers"))
    ours = [rates[f"{name}_mark_by_us"] / 1e6 for name in ("vllm", "transformers")]
    return (
        f"vLLM {vllm / 1e6:.2f} M, transformers {theirs:,.0f} | {ours[0]:.1f} M and {ours[1]:.1f} M"
    )


def _accused(m: Any) -> str:
    found = m["transformers_synthid_table_most_ones"]
    fair, ours = found["fair_bits"]["share_at_1e-6"], found["ours"]["share_at_1e-6"]
    return (
        f"a table of {100 * found['share_of_ones']:.1f} % ones, {found['pairs']:,} pairs | fair "
        f"bits accuse {100 * fair:.0f} % of innocent keys at 1e-6 | the hash's own null: "
        f"{'some' if ours else 'none'}"
    )


def _best_step(m: Any) -> str:
    names = {"Gumbel": "gumbel", "red-green": "red-green", "tournament": "tournament"}
    return ", ".join(f"{said} {_fastest(m, name)} us" for said, name in names.items())


def _demo(m: Any) -> str:
    steps = [step for step in m["steps"] if " by " in step["name"]]
    return "\n".join(f"| {_p(step['log10_p'])} | {step['n_scored']:,} |" for step in steps)


def _p(log10_p: float) -> str:
    return f"{10**log10_p:.2g}".replace("e-0", "e-")


# Result -> what docs/results.md says of it, in a row that links it.
QUOTES: dict[str, tuple[Words, ...]] = {
    "validity": (_pairs, _largest_rates),
    "quality": tuple(
        lambda m, name=name: f"{name} {_difference(m[name]['nll_difference'])}"
        for name in ("default", "gumbel", "tournament")
    ),
    "startup": (lambda m: f"median {m['median_seconds']:.2f} s",),
    "far_tail": (lambda m: f"right to {m['tables']['worst_error_of_ln_p']:.1e} in ln p",),
    "tokens_to_detection": (_with_reference,),
    "optional_stopping": (
        lambda m: f"{m['default']['fixed_sample_p']['every_token'][1]['rate']:.2f} at 0.05",
    ),
    "localisation": (
        lambda m: "{all_found[hits]} of {all_found[of]} found".format(**m["power"]["1x400"]),
    ),
    "fraction": (_coverage,),
    "accounts": (lambda m: f"{_percent(m['right']['default'], 50, 100, 200, 500)} % of texts",),
    "inheritance": (_by_text, _by_weights, _after_attacks, _own_tokenizer, _innocents),
    "interop": (
        lambda m: f"1e{m['vllm-one-key']['marked']['median_log10_p']:.0f} (vLLM, one key)",
    ),
    "interop_transformers": (
        lambda m: f"selfhash {m['KGW, selfhash']['found_at_1e-6'] * m['texts']:.0f}",
    ),
    "serving_vllm": (_serving, _found_in_vllm),
    "constrained": (_tool_calls,),
    "skills": (_skill, _in_code),
    "cohorts": (
        lambda m: "{right_cohort_named} of {students} named".format(**m["summary"]["all marked"]),
        lambda m: "log10 p {1:.0f} to {0:.0f}".format(
            *_edges(m["summary"]["all marked"]["own_log10_p"])
        ),
    ),
    "speculative": (_accepted,),
    "decoding_step": (_steps, _peers),
    "gpu_step": (
        lambda m: f"draw {_fastest(m, 'gumbel')} us, tilt {_fastest(m, 'red-green')} us",
        lambda m: f"tournament {_fastest(m, 'tournament')}",
    ),
    "scan_speed": (
        lambda m: f"ids {_rate(m, 'default')} (default) to {_rate(m, 'red-green')} (red-green)",
        lambda m: f"{m['phases']['median_speed_ratio_of_all']:.2f} in one process",
        lambda m: f"{m['ray']['median_speed_of_2_to_1']:.2f} (aim 1.7",
    ),
    "interop_kgw": (
        lambda m: f"{m['transformers-kgw lefthash h=1']['times_faster']:.0f} times faster",
    ),
    "weak_hashes": (_weak,),
    "tracing": (_right, _searches, _deep, _shares, _collusion, _words_a_second),
    "trace_model": (_one_cohort,),
    "leak_or_campaign": (_outside,),
    "code_slots": (_slots,),
    "tampering": (_found,),
    "registry": (_timings, _acknowledged),
    "decode_overhead": (
        lambda m: "default {:.2f}, {:.2f}".format(
            *(m[name]["median_ratio"]["default"]["processor"] for name in ("batch 1", "batch 8"))
        ),
    ),
}
# What README says in the same words, by result.
README: dict[str, tuple[Words, ...]] = {
    "validity": (_pairs, _largest_rates),
    "quality": QUOTES["quality"][:1],
    "inheritance": (_by_text,),
    "decoding_step": (_peers,),
    "gpu_step": (_best_step,),
    "far_tail": (_two_moments,),
    "scan_speed": (_detectors,),
    "weak_hashes": (_accused,),
    "tampering": (_found,),
    "demo": (_demo,),
}
