"""Arguments that are templates in a Dag written by hand, and text in a generated one."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from airflow.sdk import BaseOperator

if TYPE_CHECKING:
    import jinja2
    from airflow.sdk import Context


class TemplatedOperator(BaseOperator):
    """Base of the operators that name things of the registry in their `template_fields`.

    Args:
        is_templated: whether Jinja in the fields is rendered, and Airflow keeps and shows them. Not in a
            generated Dag: text of the registry is never code, and Airflow would be asked once more a task.
    """

    def __init__(self, *, is_templated: bool = True, **kwargs: Any) -> None:  # Any: BaseOperator's own
        super().__init__(**kwargs)
        self.is_templated = is_templated
        if not is_templated:
            self.template_fields = ()

    def render_template_fields(self, context: Context, jinja_env: jinja2.Environment | None = None) -> None:
        """Render the fields if they are templates."""
        if self.is_templated:
            super().render_template_fields(context, jinja_env)
