"""The operators of the Dag `detection_promotion`: a person's approval, and the watch after it.

One task does all that an approval decides. Nothing that it relies on is in an XCom or in the state of another
task, for both can be written by people who may not approve: the request and its evidence are rows of the
registry, and the answer is what Airflow says of this very task.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

from airflow.providers.standard.operators.hitl import ApprovalOperator
from airflow.sdk import BaseOperator
from airflow.sdk.exceptions import AirflowFailException, AirflowSkipException
from airflow.sdk.execution_time.hitl import upsert_hitl_detail

from airflow_detection.errors import PromotionError
from airflow_detection.operators.context import (
    open_artifact,
    open_database,
    param,
    reader_conninfo_of,
    settings_of,
    terminal_errors,
)
from airflow_detection.operators.links import ComparisonLink
from airflow_detection.operators.telemetry import emit, log_context

if TYPE_CHECKING:
    from airflow.sdk import Context

    from airflow_detection.domain.settings import Settings
    from airflow_detection.promotion.judgement import Judgement
    from airflow_detection.store.database import Database
    from airflow_detection.store.promotions import Promotion

log = logging.getLogger(__name__)
Notifier = Callable[[Any], None]  # Any: Airflow's context; its own notifiers are called with it
ANSWER_WITHIN = timedelta(days=3)
POLL = timedelta(seconds=20)


def source_of(context: Context) -> str:
    """The run that asks for a promotion, as the registry records it."""
    return f"{context['dag_run'].dag_id} {context['dag_run'].run_id}"


def notify(notifiers: Sequence[Notifier], context: Context, promotion: Promotion) -> None:
    """Call each notifier with the context and `detection_promotion` in it: a JSON object.

    One that fails is logged: it must not keep a promotion that is in force from being watched.
    """
    last = promotion.states[-1]
    entry = {
        "promotion_id": promotion.promotion_id,
        "version": promotion.label,
        "champion": promotion.champion,
        "state": promotion.state.value,
        "requested_by": promotion.requested_by,
        "actor": last.actor,
        "reason": last.reason,
    }
    notification: Any = {**context, "detection_promotion": entry}  # Any: Airflow's context with our own entry
    for call in notifiers:
        try:
            call(notification)
        except Exception:
            log.exception("a notifier of promotion %d failed", promotion.promotion_id)


class PromotionOperator(ApprovalOperator):
    """Ask for a version to become PRIMARY, show the evidence, wait for a person, check again, promote.

    The Dag's params `version` (`model@version`), `reason`, `watch_hours` and `replay_cycles` say what is
    asked for; the user who started the run is the one who asks. With `replay_cycles` the version first runs,
    as a replay and in this task, in those of so many past cycles in which it has no result. Without an answer
    within `response_timeout` the request is rejected. A version that its model's policy refuses waits for
    nobody: the task fails with the reason, which is in the body that Airflow shows of it as well.

    Args:
        detection_conn_id: a connection to the registry's database whose login may change roles.
        on_request: Airflow's notifiers, or functions of a context, called when a person is waited for.
        on_decision: the same, called when the promotion is in force, rejected or refused.
    """

    template_fields: Sequence[str] = ()  # the evidence is text of the registry: never rendered
    operator_extra_links = (ComparisonLink(),)
    ui_color = "#e8e0f3"

    def __init__(
        self,
        *,
        detection_conn_id: str = "detection_default",
        on_request: Sequence[Notifier] = (),
        on_decision: Sequence[Notifier] = (),
        response_timeout: timedelta = ANSWER_WITHIN,
        **kwargs: Any,  # Any: ApprovalOperator's own
    ) -> None:
        kwargs.setdefault("subject", "Promote a version to PRIMARY?")
        super().__init__(response_timeout=response_timeout, defaults=self.REJECT, retries=0, **kwargs)
        self.detection_conn_id = detection_conn_id
        self.on_request = tuple(on_request)
        self.on_decision = tuple(on_decision)
        self.comparison_page: str | None = None

    def execute(self, context: Context) -> Any:  # Any: ApprovalOperator's
        """Take the evidence and wait for an answer to it."""
        settings = settings_of()
        with terminal_errors(), open_database(self.detection_conn_id, settings) as db:
            promotion, judgement = self._ask(db, context, settings)
        self.subject = f"Promote {promotion.label} to PRIMARY?"
        self.body = judgement.markdown(promotion.promotion_id)
        self.comparison_page = judgement.page
        if not judgement.is_passed:
            self._show(context)
            notify(self.on_decision, context, promotion)
            raise AirflowFailException(f"{promotion.label} is not promoted: {judgement.refusal}")
        notify(self.on_request, context, promotion)
        return super().execute(context)

    def _ask(self, db: Database, context: Context, settings: Settings) -> tuple[Promotion, Judgement]:
        from airflow_detection.store import promotions
        from airflow_detection.store.promotions import State

        requester = context["dag_run"].triggering_user_name
        if not requester:
            raise AirflowFailException("nobody is known to have started this run: a promotion needs a person")
        asked = promotions.ask(
            db,
            str(param(context, "version")),
            actor=requester,
            reason=str(param(context, "reason") or ""),
            watch=timedelta(hours=float(param(context, "watch_hours") or 0)),
            source=source_of(context),
            answer_within=self.response_timeout,
        )
        try:
            judgement = self._judge(db, context, settings, asked)
        except Exception as error:
            reason = f"it could not be judged: {error}"
            promotions.record(db, asked.promotion_id, State.WITHDRAWN, actor="airflow", reason=reason)
            raise
        promotions.record(db, asked.promotion_id, State.JUDGED, actor=requester, evidence=judgement.evidence)
        if not judgement.is_passed:
            promotions.record(db, asked.promotion_id, State.REFUSED, actor="policy", reason=judgement.refusal)
        return promotions.promotion(db, asked.promotion_id), judgement

    def _judge(self, db: Database, context: Context, settings: Settings, asked: Promotion) -> Judgement:
        """Replay the version where that is asked for, and judge it."""
        from airflow_detection.promotion.judgement import judge

        if latest := int(param(context, "replay_cycles") or 0):
            self._replay(db, settings, asked, latest)
        return judge(db, asked.label, reason=asked.reason, **judged_by())

    def _replay(self, db: Database, settings: Settings, asked: Promotion, latest: int) -> None:
        """Replay the version in those of the latest cycles that its champion completed and it did not.

        Raises:
            PromotionError: there is no such cycle to look at, or it failed in each.
        """
        from airflow_detection.cycle.replay import replay
        from airflow_detection.domain.specs import Outcome
        from airflow_detection.store import comparisons, registry

        if asked.champion_id is None:
            raise PromotionError(f"{asked.label} cannot be replayed: {asked.model_id} has no PRIMARY")
        cycle_id = registry.cycle_of(db, asked.model_id)
        cycles, count = comparisons.cycles_to_replay(
            db, cycle_id, version_id=asked.version_id, champion_id=asked.champion_id, latest=latest
        )
        champion = f"{asked.model_id}@{asked.champion}"
        if not count:
            raise PromotionError(f"{asked.label} cannot be replayed: {champion} has completed no cycle")
        self.log.info(
            "%s has a result in %d of the last %d cycles of %s: %d to replay",
            asked.label, count - len(cycles), count, champion, len(cycles),
        )  # fmt: skip
        reports = []
        reader = reader_conninfo_of(settings)
        for replayed in replay(
            db, settings, cycle_id, [asked.label], cycles,
            log_context=log_context, reader_conninfo=reader, opener=open_artifact,
        ):  # fmt: skip
            report = replayed.report
            reports.append(report)
            at, said = replayed.at.isoformat(), f": {report.error}" if report.error else ""
            self.log.info(
                "replay %d of %d, %s: %s%s", len(reports), len(cycles), at, report.outcome.value, said
            )
        emit(cycle_id, reports)
        if reports and not any(report.outcome is Outcome.SUCCEEDED for report in reports):
            raise PromotionError(
                f"{asked.label} succeeded in none of {len(reports)} replays, the last: {reports[-1].error}"
            )

    def _show(self, context: Context) -> None:
        """Write the request as Airflow shows it, without waiting for an answer."""
        upsert_hitl_detail(
            ti_id=context["task_instance"].id,
            options=self.options,
            subject=self.subject,
            body=self.body,
            defaults=self.defaults,
            multiple=self.multiple,
            params=self.serialized_params,
            assigned_users=self.assigned_users,
        )

    def execute_complete(self, context: Context, event: dict[str, Any]) -> Any:  # Any: ApprovalOperator's
        """Act on the answer: promote, or record why not.

        Before `ApprovalOperator` does its part, which ends with an exception where it skips the watch.
        """
        if "error" not in event:
            self.validate_chosen_options(event["chosen_options"])
            settings = settings_of()
            with terminal_errors(), open_database(self.detection_conn_id, settings) as db:
                promotion = self._decide(db, context, event, settings)
            notify(self.on_decision, context, promotion)
            self.log.info(
                "promotion %d of %s is %s", promotion.promotion_id, promotion.label, promotion.state
            )
            if promotion.state.value == "REFUSED":
                raise AirflowFailException(
                    f"{promotion.label} is not promoted: {promotion.states[-1].reason}"
                )
        return super().execute_complete(context, event)

    def _decide(
        self,
        db: Database,
        context: Context,
        answer: Mapping[str, Any],  # Any: Airflow's answer
        settings: Settings,
    ) -> Promotion:
        from airflow_detection.promotion.judgement import judge
        from airflow_detection.store import promotions
        from airflow_detection.store.promotions import State

        waiting = next(iter(promotions.promotions(db, source=source_of(context), is_under_way=True)), None)
        if waiting is None or waiting.state is not State.JUDGED:
            raise AirflowFailException("no promotion of this run waits for an answer")
        user = (answer.get("responded_by_user") or {}).get("name")

        def record(state: State, actor: str, reason: str) -> Promotion:
            return promotions.record(db, waiting.promotion_id, state, actor=actor, reason=reason)

        if answer["chosen_options"] != [self.APPROVE]:
            if user is None:
                return record(State.TIMED_OUT, "airflow", "nobody answered in time")
            return record(State.REJECTED, user, "")
        if user is None:
            return record(State.REFUSED, "airflow", "nobody is known to have approved it")
        if settings.promotion_four_eyes and user == waiting.requested_by:
            return record(State.REFUSED, user, f"{user} asked for it and cannot approve it")
        judgement = judge(db, waiting.label, reason=waiting.reason, **judged_by())
        self.comparison_page = judgement.page
        if not judgement.is_passed:
            return record(State.REFUSED, user, f"since it was asked for: {judgement.refusal}")
        try:
            return promotions.put_in_force(
                db, waiting.promotion_id, actor=user, reason=waiting.reason, evidence=judgement.evidence
            )
        except PromotionError as error:
            return record(State.REFUSED, user, str(error))


def judged_by() -> dict[str, Any]:  # Any: the thresholds and the flag
    """What a judgement takes from the configuration."""
    from airflow_detection.config import thresholds
    from airflow_detection.engine.flags import use_model_registry

    return {"thresholds": thresholds(), "use_model_registry": use_model_registry()}


class PromotionWatchOperator(BaseOperator):
    """Watch the cycles of the promotion that this run put in force; roll it back when they are bad.

    Waits in the triggerer between looks, or in its own process where `deferrable` is off. Skips where a
    person said no, and fails where the promotion was refused or could not be judged. The registry says what
    there is to watch, whatever became of the task that promoted: Airflow may lose sight of that one after it
    has done its work.

    Args:
        detection_conn_id: a connection to the registry's database whose login may change roles.
        on_rollback: Airflow's notifiers, or functions of a context, called after a rollback, at least once.
        poll: how long to wait between two looks at the registry.
    """

    template_fields: Sequence[str] = ()
    ui_color = "#e8e0f3"

    def __init__(
        self,
        *,
        detection_conn_id: str = "detection_default",
        on_rollback: Sequence[Notifier] = (),
        poll: timedelta = POLL,
        deferrable: bool = True,
        **kwargs: Any,  # Any: BaseOperator's own
    ) -> None:
        super().__init__(**kwargs)
        self.detection_conn_id = detection_conn_id
        self.on_rollback = tuple(on_rollback)
        self.poll = poll
        self.deferrable = deferrable

    def execute(self, context: Context, event: Any = None) -> None:  # Any: the trigger's, and not relied on
        """Look; wait and look again as long as the promotion is in force."""
        import time

        from airflow_detection.store.promotions import State
        from airflow_detection.triggers.next_result import NextResultTrigger

        del event
        while True:
            promotion, seen = self._look(context)
            if promotion.state is not State.IN_FORCE:
                break
            if self.deferrable:
                since = promotion.since(State.IN_FORCE) or promotion.requested_at
                trigger = NextResultTrigger(
                    detection_conn_id=self.detection_conn_id,
                    version_id=promotion.version_id,
                    since=since.isoformat(),
                    seen=seen,
                    poll_s=self.poll.total_seconds(),
                    until=(since + promotion.watch).isoformat(),
                )
                self.defer(trigger=trigger, method_name="execute")
            time.sleep(self.poll.total_seconds())
        self.log.info("promotion %d of %s is %s", promotion.promotion_id, promotion.label, promotion.state)
        if promotion.state is State.ROLLED_BACK:
            self.log.warning("rolled back: %s", promotion.states[-1].reason)
            notify(self.on_rollback, context, promotion)

    def _look(self, context: Context) -> tuple[Promotion, int]:
        """Return the promotion after a look at its cycles, and how many results its version had before."""
        from airflow_detection.promotion.watch import look
        from airflow_detection.store import promotions
        from airflow_detection.store.promotions import State

        with terminal_errors(), open_database(self.detection_conn_id, settings_of()) as db:
            asked = promotions.promotions(db, source=source_of(context))
            if not asked:
                raise AirflowFailException("this run has asked for no promotion")
            since = asked[0].since(State.IN_FORCE)
            if since is None:
                last = asked[0].states[-1]
                said = f"promotion {asked[0].promotion_id} is {last.state}: {last.reason}"
                is_no = last.state in (State.REJECTED, State.TIMED_OUT) or (
                    last.state is State.WITHDRAWN and asked[0].since(State.JUDGED) is not None
                )
                raise (AirflowSkipException if is_no else AirflowFailException)(said)
            seen = promotions.results_since(db, asked[0].version_id, since)
            looked = look(db, asked[0].promotion_id, now=datetime.now(UTC), **judged_by())
        return looked.promotion, seen
