"""The demo's stages, in order. Each leaves a file, so that a stopped run goes on where it was."""

from __future__ import annotations

import json
import os
import platform
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from importlib.metadata import version
from pathlib import Path
from statistics import median
from typing import Any, Final, final

import numpy as np

from detect.corpus import CorpusResult, scan_corpus
from detect.demo.prompts import held_out_prompts, training_prompts
from detect.documents import Document
from detect.finding import Plan
from detect.inheritance import (
    TEXT_EFFECT,
    WEIGHTS_EFFECT,
    Outcome,
    assess_answers,
    assess_reading,
)
from detect.probe import Control, ProbeResult, conclude
from detect.results import ALPHA, Verdict, format_p
from detect.suspects import ReadingText, SuspectAnswer, TransformersSuspect
from watermark.answering import answer_prompts
from watermark.cli import progress
from watermark.config import WatermarkConfig, load_config, preset
from watermark.errors import ConfigError
from watermark.files import atomic_writer, dump_json, read_json
from watermark.keys import SecretKey, load_key, save_key
from watermark.models import resolve_model
from watermark.tokens import TextTokenizer, load_tokenizer

__all__ = ["FULL", "QUICK", "Size", "run_demo"]

_TEMPERATURE: Final = 1.0
_TOP_K: Final = 50
_N_DECOYS: Final = 999


@final
@dataclass(frozen=True)
class Size:
    """How large a run is.

    Attributes:
        n_training: prompts that the teacher answers for the student.
        n_probe: held-out prompts that suspects answer.
        n_reading: unmarked answers among them that models read, with access to weights.
        max_new_tokens: longest answer.
        learning_rate: of the fine-tuning.
        trained_layers: last layers that learn; None is all.
        n_marked: marked answers hidden in the mixed corpus.
    """

    n_training: int = 400
    n_probe: int = 250
    n_reading: int = 120
    max_new_tokens: int = 96
    learning_rate: float = 5e-4
    trained_layers: int | None = 10
    n_marked: int = 20


FULL: Final = Size()
QUICK: Final = Size(n_training=64, n_probe=24, n_reading=24, max_new_tokens=48)


@final
@dataclass
class _Run:
    """One run: its folder, what it found, and what it spent."""

    folder: Path
    model: Path
    size: Size
    config: WatermarkConfig
    key: SecretKey
    tokenizer: TextTokenizer
    say: Callable[[str], object]
    steps: list[dict[str, Any]] = field(default_factory=list)
    work: list[dict[str, Any]] = field(default_factory=list)
    started: float = field(default_factory=time.monotonic)
    kept_seconds: float = 0.0

    def plan(self, effect: float) -> Plan:
        return Plan(self.config, self.key, ALPHA, effect, _N_DECOYS, 0)

    def stage(self, name: str, file: str, make: Callable[[Path], object]) -> Path:
        """Make a file or folder unless an earlier run did; note the seconds."""
        path = self.folder / file
        clock = self.folder / f"{file.partition('.')[0]}.seconds"
        if path.exists() and clock.exists():
            self.say(f"{name}: kept from an earlier run")
            self.kept_seconds += float(clock.read_text(encoding="utf-8"))
        else:
            self.say(f"{name} ...")
            started = time.monotonic()
            make(path)
            _write(clock, f"{time.monotonic() - started:.1f}\n")
        self.work.append({"name": name, "seconds": float(clock.read_text(encoding="utf-8"))})
        return path

    def found(self, name: str, seconds: float, payload: dict[str, Any]) -> None:
        """Note a result and print its line."""
        self.steps.append({"name": name, "seconds": round(seconds, 1), **payload})
        self.say(
            f"  {name}: {payload['verdict'].replace('_', ' ')}, p = {format_p(payload['log10_p'])} "
            f"from {payload['n_scored']} pairs"
        )


def run_demo(
    folder: Path, model: str, *, quick: bool, say: Callable[[str], object]
) -> dict[str, Any]:
    """Run the demo, or go on with one.

    Args:
        folder: where everything is kept.
        model: the teacher: "smollm2", a folder or a Hub id.
        quick: the small size.
        say: prints a line.

    Returns:
        What demo.json holds.

    Raises:
        ConfigError: the folder holds a run of another kind.
    """
    run = _start(folder, model, QUICK if quick else FULL, say)
    marked = run.stage(
        "teacher answers under the key", "marked.jsonl", lambda p: _teach(run, p, True)
    )
    plain = run.stage(
        "teacher answers without a key", "unmarked.jsonl", lambda p: _teach(run, p, False)
    )
    _single_answers(run, _rows(marked), _rows(plain))
    _mixed_corpus(run, _rows(marked), _rows(plain))
    student = run.stage(
        "student learns from the marked answers", "student", lambda p: _train(run, marked, p)
    )
    twin = run.stage(
        "twin learns from the unmarked answers", "twin", lambda p: _train(run, plain, p)
    )
    models = {"student": student, "twin": twin, "base": run.model}
    asked = {
        name: run.stage(
            f"{name} answers held-out prompts",
            f"{name}-answers.jsonl",
            lambda p, m=path: _ask(run, m, p),  # type: ignore[misc]
        )
        for name, path in models.items()
    }
    _probe_by_text(run, asked)
    _probe_by_weights(run, models, asked["base"])
    return _finish(run)


def _start(folder: Path, model: str, size: Size, say: Callable[[str], object]) -> _Run:
    say("loading the model (the first time it is converted, about 20 seconds)")
    source = resolve_model(model)
    tokenizer = load_tokenizer(source)
    folder.mkdir(parents=True, exist_ok=True)
    marker = {"format": "heirmark-demo-1", "model": source.name, "size": asdict(size)}
    path = folder / "run.json"
    if path.exists() and read_json(path) != marker:
        raise ConfigError(
            f"{folder} holds a run with another model or size; choose another --output, "
            "or delete it"
        )
    if not path.exists():
        if any(folder.iterdir()):
            raise ConfigError(
                f"{folder} is not empty and holds no demo run; choose another --output"
            )
        save_key(SecretKey.generate(), folder / "demo.key.json")
        _write(
            folder / "config.json",
            dump_json(preset("default").bound_to(tokenizer.fingerprint).to_dict()),
        )
        _write(path, dump_json(marker))
    config, key = load_config(folder / "config.json"), load_key(folder / "demo.key.json")
    say(f"a fresh key: {key.key_id}; {config.scheme.name}, context width {config.context_width}")
    return _Run(folder, source, size, config, key, tokenizer, say)


def _teach(run: _Run, path: Path, marked: bool) -> None:
    prompts = training_prompts(run.size.n_training)
    with progress(len(prompts) * run.size.max_new_tokens, "teacher", "tok") as bar:
        answered = answer_prompts(
            run.model,
            prompts,
            config=run.config if marked else None,
            key=run.key if marked else None,
            on_tokens=bar.update,
            max_new_tokens=run.size.max_new_tokens,
            temperature=_TEMPERATURE,
            top_k=_TOP_K,
        )
    _write(path, "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in answered.rows))


def _single_answers(run: _Run, marked: list[dict[str, Any]], plain: list[dict[str, Any]]) -> None:
    for name, rows in (("marked", marked), ("unmarked", plain)):
        started = time.monotonic()
        result = _scan(run, rows, n_decoys=_N_DECOYS)
        each = np.array([d.log10_p for d in result.documents])
        payload = _without_documents(result)
        payload["median_log10_p"] = median(each.tolist())
        payload["uniformity_p_value"] = _uniformity(10**each)
        run.found(f"{name} answers of the teacher", time.monotonic() - started, payload)
        run.say(f"    single answers: median p = {format_p(payload['median_log10_p'])}")


def _uniformity(p_values: np.ndarray[tuple[int], np.dtype[np.float64]]) -> float:
    """Kolmogorov-Smirnov test of uniform p-values (scipy), two-sided."""
    from scipy.stats import kstest

    return float(kstest(p_values, "uniform").pvalue)


def _mixed_corpus(run: _Run, marked: list[dict[str, Any]], plain: list[dict[str, Any]]) -> None:
    started = time.monotonic()
    rows = [*plain[run.size.n_marked :], *marked[: run.size.n_marked]]
    result = _scan(run, rows, n_decoys=_N_DECOYS)
    payload = {**_without_documents(result), "n_marked": run.size.n_marked}
    run.found("mixed corpus", time.monotonic() - started, payload)
    run.say(f"    {payload['n_significant']} documents found; {run.size.n_marked} are marked")


def _scan(run: _Run, rows: list[dict[str, Any]], n_decoys: int) -> CorpusResult:
    documents = [Document(str(i), f"answer {i}", row["text"]) for i, row in enumerate(rows)]
    return scan_corpus(
        documents, tokenizer=run.tokenizer, config=run.config, key=run.key, n_decoys=n_decoys
    )


def _without_documents(result: CorpusResult) -> dict[str, Any]:
    payload = result.to_dict()
    payload.pop("documents")
    return payload


def _train(run: _Run, answers: Path, out: Path) -> None:
    from detect.demo.student import Example, Recipe, fine_tune

    suspect = TransformersSuspect(run.model)
    rows = _rows(answers)
    examples = [Example(suspect.chat_ids(row["prompt"]), row["token_ids"]) for row in rows]
    end_id = suspect.end_ids[0]
    del suspect
    recipe = Recipe(learning_rate=run.size.learning_rate, trained_layers=run.size.trained_layers)
    total = sum(len(e.answer_ids) + 1 for e in examples)
    with progress(total, out.name, "tok") as bar:
        fine_tune(
            run.model, examples, out, recipe, end_id=end_id, on_tokens=lambda n, loss: bar.update(n)
        )


def _ask(run: _Run, model: Path, out: Path) -> None:
    from watermark.generation import Sampling

    prompts = held_out_prompts(run.size.n_probe)
    sampling = Sampling(run.size.max_new_tokens, _TEMPERATURE, _TOP_K, seed=1)
    with progress(len(prompts) * run.size.max_new_tokens, out.stem, "tok") as bar:
        answers = TransformersSuspect(model).answers(prompts, sampling, bar.update)
    lines = [
        json.dumps({"prompt": p, "full_prompt": a.prompt, "text": a.text}, ensure_ascii=False)
        + "\n"
        for p, a in zip(prompts, answers, strict=True)
    ]
    _write(out, "".join(lines))


def _probe_by_text(run: _Run, asked: dict[str, Path]) -> None:
    tested: dict[str, Outcome] = {}
    seconds = {}
    for name, path in asked.items():
        started = time.monotonic()
        answers = [SuspectAnswer(row["full_prompt"], row["text"]) for row in _rows(path)]
        tested[name] = assess_answers(run.plan(TEXT_EFFECT), run.tokenizer, answers)
        seconds[name] = time.monotonic() - started + _spent(run, f"{name}-answers")
    _conclude(run, "text", tested, {}, seconds)


def _probe_by_weights(run: _Run, models: dict[str, Path], reading: Path) -> None:
    """Read the base's own unmarked answers; the base is read without a reference."""
    reference = TransformersSuspect(run.model, "base")
    texts = [
        ReadingText(
            reference.chat_ids(row["prompt"]), tuple(run.tokenizer.encode(row["text"]).tolist())
        )
        for row in _rows(reading)[: run.size.n_reading]
    ]
    tested: dict[str, Outcome] = {}
    seconds = {}
    for name, path in models.items():
        started = time.monotonic()
        is_reference = name == "base"
        suspect = reference if is_reference else TransformersSuspect(path, name)
        with progress(sum(len(t.token_ids) for t in texts), f"reading with {name}", "tok") as bar:
            tested[name] = assess_reading(
                run.plan(WEIGHTS_EFFECT),
                run.tokenizer,
                suspect,
                None if is_reference else reference,
                texts,
                bar.update,
            )
        seconds[name] = time.monotonic() - started
    _conclude(
        run, "weights", tested, {"base": "read without a reference: it is the reference"}, seconds
    )


def _conclude(
    run: _Run,
    access: Any,
    tested: dict[str, Outcome],
    notes: dict[str, str],
    seconds: dict[str, float],
) -> None:
    controls = [
        Control("twin", "clean twin", tested["twin"], notes.get("twin", "")),
        Control("base", "untouched base", tested["base"], notes.get("base", "")),
    ]
    n = run.size.n_probe if access == "text" else run.size.n_reading
    results: list[ProbeResult] = [
        conclude("student", access, tested["student"], controls, n),
        conclude("twin", access, tested["twin"], [controls[1]], n),
        conclude("base", access, tested["base"], [controls[0]], n),
    ]
    for result in results:
        run.found(f"{result.suspect} by {access}", seconds[result.suspect], result.to_dict())


def _finish(run: _Run) -> dict[str, Any]:
    from detect.reporting import render_report

    payload = {
        "kind": "demo",
        "verdict": _verdict(run.steps).value,
        "key_id": run.key.key_id,
        "config": run.config.to_dict(),
        "recipe": {**asdict(run.size), "temperature": _TEMPERATURE, "top_k": _TOP_K},
        "machine": {"cores": os.cpu_count(), "python": platform.python_version()},
        "versions": {
            name: version(name) for name in ("heirmark", "torch", "transformers", "numpy")
        },
        "steps": run.steps,
        "work": run.work,
        "seconds": round(time.monotonic() - run.started + run.kept_seconds, 1),
        "command": "heirmark demo --output " + run.folder.name,
    }
    _write(run.folder / "demo.json", dump_json(payload))
    _write(run.folder / "report.html", render_report(payload))
    run.say(f"wrote {run.folder / 'report.html'} and {run.folder / 'demo.json'}")
    return payload


def _verdict(steps: list[dict[str, Any]]) -> Verdict:
    """Return the run's finding: a signal if the student shows it both by text and by weights."""
    verdicts = [step["verdict"] for step in steps if step.get("suspect") == "student"]
    proven = all(verdict == Verdict.SIGNAL.value for verdict in verdicts)
    return Verdict.SIGNAL if proven else Verdict.INCONCLUSIVE


def _spent(run: _Run, stem: str) -> float:
    return float((run.folder / f"{stem}.seconds").read_text(encoding="utf-8"))


def _rows(path: Path) -> list[dict[str, Any]]:
    with path.open(encoding="utf-8") as lines:
        return [json.loads(line) for line in lines]


def _write(path: Path, text: str) -> None:
    with atomic_writer(path) as file:
        file.write(text)
