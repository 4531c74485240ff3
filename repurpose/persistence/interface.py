"""Every Repurposer is saved by one method, whatever it learned; `load` is a function, as there is no object before."""

from collections.abc import Callable, Collection, Mapping
from os import PathLike
from typing import TYPE_CHECKING, Any, ClassVar

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

__all__ = ["SavingMixin"]


class SavingMixin:
    """Saving of a trained Repurposer; `Repurposer` inherits it."""

    _finds_its_source: ClassVar[bool] = False  # by other parameters, when it is loaded

    source_model: Any
    get_params: Callable[..., dict[str, Any]]
    _check_is_repurposed: Callable[[], None]
    _learned_for_file: Callable[[], dict[str, Any]]
    _sizes_of: Callable[[Mapping[str, Any]], dict[str, int]]
    _used_in_training_only: Collection[str]

    def save_repurposer(
        self,
        path: str | PathLike,
        *,
        overwrite: bool = True,
        save_source_model: bool = False,
        encryption_key: bytes | str | None = None,
        signing_key: "bytes | Ed25519PrivateKey | None" = None,
    ) -> str:
        """Write everything `repurpose.load` needs to `path`, without pickle: one file if that ends in ``.zip``.

        Otherwise it is a directory. A repurposer that is saved there is replaced, unless `overwrite` is False: whatever
        happens meanwhile, the old or the new one is there, whole, also for who reads at the same time. Of a network
        given as a module only the fingerprint is written, so that it must be given again when loading, unless
        `save_source_model` is True. The files are described in docs/format.md.

        Parameters
        ----------
        path : str or path
        overwrite : bool
            Whether a repurposer that is saved there may be replaced.
        save_source_model : bool
            Whether the weights of the network are kept: one whose name `load_source` knows need then not be given at
            all when loading, any other with whatever weights.
        encryption_key : bytes or str, optional
            Encrypts the files (AES-256-GCM): 32 bytes that only readers know, such as ``secrets.token_bytes(32)``, or a
            passphrase, from which scrypt makes a key in a quarter of a second. Whoever loses it has lost the files.
        signing_key : bytes or Ed25519PrivateKey, optional
            Signs them (Ed25519), so that ``load(path, verify_key=...)`` knows who wrote them: 32 bytes, as
            `repurpose.signing_key_pair` makes them.

        Returns
        -------
        str
            The SHA-256 of the manifest, 64 hexadecimal digits: ``load(path, expected_hash=...)`` loads nothing else.

        Raises
        ------
        NotFittedError
            Before `repurpose`.
        ValueError
            Listing what a file cannot hold, of what was learned or of the source; nothing is written.
        TypeError, ValueError
            For a key of another type or size.
        ImportError
            For a key, without the package cryptography: ``pip install 'repurpose-torch[crypto]'``.
        FileExistsError
            For another file or a directory that holds anything else, or a saved repurposer that may not be replaced.
        OSError
            Naming the file that cannot be written; what was saved there before stays.

        Examples
        --------
        >>> from sklearn.datasets import make_blobs
        >>> from torch import nn
        >>> from repurpose import SvmRepurposer
        >>> network = nn.Sequential(nn.Linear(2, 8), nn.ReLU(), nn.Linear(8, 5))
        >>> repurposer = SvmRepurposer(network).repurpose(make_blobs(30, random_state=8))
        >>> len(repurposer.save_repurposer("my-repurposer"))
        64
        """
        from repurpose.persistence.saving import save
        from repurpose.persistence.values.schema import check_learned

        self._check_is_repurposed()
        parameters, source_model = self._parameters_for_file(), self._source_for_file(save_source_model)
        learned, spare = self._learned_for_file(), self._used_in_training_only
        try:
            check_learned(type(self), learned, self._sizes_of(learned))
        except ValueError as error:  # loading would refuse it, when it is too late
            raise ValueError(f"this {type(self).__name__} cannot be saved: {error}") from error
        return save(
            path,
            type(self),
            source_model,
            parameters,
            learned,
            spare,
            overwrite=overwrite,
            save_source_model=save_source_model,
            encryption_key=encryption_key,
            signing_key=signing_key,
        )

    def _parameters_for_file(self) -> dict[str, Any]:
        """Return what a file holds of them; the source is written otherwise, and a subclass may bring its own."""
        return {name: value for name, value in self.get_params(deep=False).items() if name != "source_model"}

    def _source_for_file(self, save_source_model: bool) -> Any:
        """Return the source that a file describes. Raises ValueError where it cannot keep the weights as asked."""
        return self.source_model
