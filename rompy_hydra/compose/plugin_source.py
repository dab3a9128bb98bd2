"""An option `backend=NAME` for each backend plug-in that no repository of the user's has a file for: its schema.

A source of its own, and no node of the ConfigStore: Hydra would match such a node with a file of the same name.  It
comes before the packaged options, because theirs does not fit a plug-in that takes the place of a built-in.
"""

from __future__ import annotations

from hydra.core.object_type import ObjectType
from hydra.plugins.config_source import ConfigLoadError, ConfigResult, ConfigSource
from omegaconf import OmegaConf

from rompy_hydra.backends.registry import is_replaced, plugin_names

GROUP = "backend"


class PluginSource(ConfigSource):
    """The options of the plug-ins; asking which there are imports none of them."""

    @staticmethod
    def scheme() -> str:
        """URL scheme of this entry of the search path."""
        return "rompy-plugins"

    def load_config(self, config_path: str) -> ConfigResult:
        """The option: what the schema says."""
        name = self._name_of(config_path)
        if name not in _names():
            raise ConfigLoadError(f"Config not found : {config_path}")
        content = OmegaConf.create({"defaults": [f"/schema/{GROUP}/{name}", "_self_"]})
        return ConfigResult(
            config=content, path=f"{self.scheme()}://", provider=self.provider, header={"package": None}
        )

    def available(self) -> bool:
        """Always: the registry answers."""
        return True

    def is_group(self, config_path: str) -> bool:
        """Whether it is ours."""
        return config_path.strip("/") == GROUP

    def is_config(self, config_path: str) -> bool:
        """Whether a plug-in has that name."""
        return self._name_of(config_path) in _names()

    def list(self, config_path: str, results_filter: ObjectType | None) -> list[str]:
        """The names, as options."""
        if results_filter is ObjectType.GROUP:
            return [GROUP] if not config_path.strip("/") else []
        return _names() if self.is_group(config_path) else []

    @staticmethod
    def _name_of(config_path: str) -> str:
        group, _, name = config_path.strip("/").rpartition("/")
        return name.removesuffix(".yaml") if group == GROUP else ""


def _names() -> list[str]:
    return [name for name in plugin_names() if is_replaced(name) is not False]
