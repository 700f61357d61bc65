"""Every statement of `sql/` is held against the same worked out in plain Python: here is where."""

from __future__ import annotations

from pathlib import Path

import pytest

from lakeinterp.lake import queries

ROOT = Path(__file__).parents[2]
SMALL = "tests/sampling/test_statements.py"
WEB = "tests/web/test_statements.py"
REPORT = "tests/report/test_plain.py::test_every_statement_says_what_plain_python_says"
SCORE = "tests/score/test_statements.py::test_small_statements_say_what_plain_python_says"
METRICS = "tests/score/test_metrics.py"
EVERY_METRIC = f"{METRICS}::test_every_metric_equals_the_plain_version"
LOCAL = "tests/score/test_local.py"
STRATA = "tests/sampling/test_negatives.py"
TILES = f"{STRATA}::test_candidates_are_those_that_looking_at_every_tile_finds"
SIMILAR = f"{STRATA}::test_similar_windows_are_the_nearest_silent_ones_of_the_role"
NEAREST = (
    "tests/sampling/test_neighbours.py::"
    "test_the_nearest_are_those_with_the_highest_jaccard_index_counted_one_by_one"
)
MEANS = "tests/score/test_means.py"
MACROS = "tests/lake/test_tables.py::test_macros_give_the_text_of_tokens_and_around_a_token"
COMPARE = "tests/report/test_compare.py"
TOLD = "tests/bridges/test_exports.py::test_statements_say_what_plain_python_says"
PROOFS = {
    "audit/": "tests/sampling/test_audits.py::test_an_audit_finds_the_fault_it_is_for",
    "bridges/": f"{SMALL}::test_rows_for_other_tools",
    "bridges/judged_items": TOLD,
    "bridges/measured": TOLD,
    "bridges/samples": TOLD,
    "bridges/standing": TOLD,
    "bridges/told": TOLD,
    "corpus/sequences": f"{SMALL}::test_sequences",
    "explain/": SCORE,
    "macros/around": MACROS,
    "macros/mix": f"{SMALL}::test_mix_is_the_same_in_sql_in_numpy_and_in_plain_integers",
    "macros/mixture_": "tests/score/test_judging.py::"
    "test_the_sequence_in_sql_is_the_one_that_decides",
    "macros/newest_": REPORT,
    "macros/q_values": f"{COMPARE}::test_discoveries_keep_the_false_ones_at_one_in_twenty",
    "macros/ratio_": f"{METRICS}::test_intervals_of_precision_and_f1_cover",
    "macros/student": f"{MEANS}::test_students_quantiles_are_those_of_the_tables",
    "macros/text_of": MACROS,
    "macros/welch": f"{MEANS}::test_welchs_interval_is_the_one_worked_out_by_hand",
    "macros/wilson_": EVERY_METRIC,
    "macros/within_": EVERY_METRIC,
    "neighbours/": NEAREST,
    "replies/": SCORE,
    "report/": REPORT,
    "report/cookbook/": "tests/report/test_cookbook.py::"
    "test_plain_python_lakeinterp_duckdb_and_polars_give_one_answer",
    "report/compare": f"{COMPARE}::"
    "test_differences_are_of_shared_latents_counted_once_or_by_frequency",
    "report/compare_runs": f"{COMPARE}::test_runs_are_named_by_what_they_are",
    "report/reference": f"{COMPARE}::test_pooled_figures_are_those_of_all_items_together",
    "report/score_blocks": "tests/report/test_sql.py::"
    "test_summaries_equal_the_plain_means_over_standing_scores",
    "report/score_summary": "tests/report/test_sql.py::"
    "test_summaries_equal_the_plain_means_over_standing_scores",
    "report/drift": "tests/rescore/test_drift.py::test_drift_is_what_was_known_before_and_after",
    "report/stale": "tests/rescore/test_stale_sql.py::test_what_is_stale_is_what_plain_python_says",
    "rescore/costs": "tests/rescore/test_stale_sql.py::"
    "test_past_costs_are_those_of_the_replies_behind_the_rows",
    "sampling/examples": f"{SMALL}::test_examples",
    "sampling/extent": f"{SMALL}::test_extent_counts_what_lies_in_the_unit",
    "sampling/fired": f"{SMALL}::test_what_fired",
    "sampling/lookup": f"{SMALL}::test_tiles_are_looked_up_by_token",
    "sampling/missing": f"{SMALL}::test_missing_and_undrawn",
    "sampling/placed": f"{SMALL}::test_tiles_are_looked_up_by_token",
    "sampling/select": f"{SMALL}::test_select",
    "sampling/summary": f"{SMALL}::test_summary",
    "sampling/tiles": "tests/sampling/test_draws.py::"
    "test_tiles_cut_every_document_span_from_its_start",
    "sampling/undrawn": f"{SMALL}::test_missing_and_undrawn",
    "score/borrowed": "tests/score/test_borrowed.py::"
    "test_every_explained_latent_borrows_from_others_of_like_density",
    "score/contrasts": EVERY_METRIC,
    "score/correlations": f"{METRICS}::test_items_of_one_call_or_document_count_less",
    "score/curves": f"{METRICS}::test_auroc_is_the_share_of_pairs_in_order",
    "score/example_embedding": "tests/score/test_embedding.py::"
    "test_the_area_is_the_share_of_pairs_in_the_right_order",
    "score/explained": SCORE,
    "score/explanations": SCORE,
    "score/failures": SCORE,
    "score/intervention": f"{LOCAL}::test_a_judge_that_knows_the_word_finds_what_the_latent_raises",
    "score/intruder": "tests/score/test_intruder.py::"
    "test_p_is_the_chance_of_as_many_right_answers_by_guessing",
    "score/items": EVERY_METRIC,
    "score/judged": SCORE,
    "score/judged_latents": SCORE,
    "score/means": f"{MEANS}::test_the_variance_of_a_mean_is_the_jackknife_over_what_items_share",
    "score/metrics": EVERY_METRIC,
    "score/neighbour_values": "tests/score/test_fuzzing.py::"
    "test_the_neighbours_activations_are_those_of_the_capture",
    "score/ranking": "tests/score/test_embedding.py::"
    "test_the_area_is_the_share_of_pairs_in_the_right_order",
    "score/scores": EVERY_METRIC,
    "score/sensitivity": f"{LOCAL}::"
    "test_texts_that_a_model_writes_fire_the_latent_they_are_written_for",
    "score/shares": EVERY_METRIC,
    "score/simulation": "tests/score/test_simulation_metrics.py::"
    "test_metrics_are_those_of_a_plain_version",
    "score/surprisal": f"{LOCAL}::test_a_surprisal_is_the_difference_of_two_losses_a_token",
    "score/unscored": SCORE,
    "stats/buckets": f"{SMALL}::test_statuses_are_counted",
    "stats/busiest": f"{SMALL}::test_busiest",
    "stats/latents": "tests/sampling/test_statistics.py::"
    "test_statistics_are_those_counted_token_by_token",
    "stats/outlook": f"{SMALL}::test_outlook",
    "stats/unrecorded": "tests/rescore/test_nightly.py::"
    "test_history_holds_a_row_for_each_corpus_that_a_latent_was_counted_over",
    "stats/windows": f"{SMALL}::test_statuses_are_counted",
    "strata/": TILES,
    "strata/find": SIMILAR,
    "strata/found": SIMILAR,
    "strata/queries": SIMILAR,
    "strata/similar": SIMILAR,
    "strata/sought": SIMILAR,
    "strata/spelled": f"{SMALL}::test_peak_tokens_and_bits_of_the_strata",
    "strata/spellings": f"{SMALL}::test_peak_tokens_and_bits_of_the_strata",
    "strata/texts": SIMILAR,
    "web/": f"{WEB}::test_every_statement_says_what_plain_python_says",
    "web/listing": f"{WEB}::test_pages_of_a_list_follow_each_other_forwards_and_backwards",
    "web/lowest": f"{WEB}::test_what_is_shown_of_latents_is_theirs_and_the_lowest_score_is_found",
    "web/shown": f"{WEB}::test_what_is_shown_of_latents_is_theirs_and_the_lowest_score_is_found",
}
"""Test by statement, or by what the names of several begin with; the longest decides."""


@pytest.mark.parametrize("name", queries.names())
def test_every_statement_has_a_test_that_works_its_result_out_in_python(name):
    begins = [p for p in PROOFS if name == p or (p.endswith(("/", "_")) and name.startswith(p))]
    assert begins, f"say in PROOFS which test holds {name} against plain Python"
    path, function = PROOFS[max(begins, key=len)].split("::")
    text = (ROOT / path).read_text(encoding="utf-8")
    assert f"def {function}(" in text
    if path in (SMALL, REPORT.split("::")[0], SCORE.split("::")[0]) and "macros/" not in name:
        stem = name.rpartition("/")[2]
        assert f'"{name}"' in text or f'"{stem}"' in text or f"FROM {stem}" in text


def test_no_proof_is_of_a_statement_that_is_gone():
    names = queries.names()
    assert [p for p in PROOFS if not any(n.startswith(p) for n in names)] == []
