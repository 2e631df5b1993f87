"""Empty: Airflow looks for a provider's examples in a module that is named like its distribution.

It logs a traceback, with `[core] load_examples` on, if there is none. The provider is `airflow_detection`.
"""
