"""The folders and files below an address, from one recursive listing."""

from collections import defaultdict

from mura_skorch.utils.remote import list_files
from mura_skorch.utils.text import printable

__all__ = ["RemoteFolder"]


class RemoteFolder:
    """The folders and files below an address of an object store.

    Parameters
    ----------
    address : str
        Of a folder on s3:// or gs://.

    Attributes
    ----------
    root : str
        The address without a slash at its end.
    folders, files : dict of str to set of str
        Names of the folders, and of the files, that are directly in a folder, by its address.

    Raises
    ------
    FileNotFoundError
        There is no file below the address.
    NotADirectoryError
        It is the address of a file.
    ImportError, OSError, ValueError
        As `mura_skorch.utils.remote.list_files`.
    """

    def __init__(self, address: str) -> None:
        self.root = address.rstrip("/")
        self.folders: dict[str, set[str]] = defaultdict(set)
        self.files: dict[str, set[str]] = defaultdict(set)
        shown = printable(self.root)
        for file in list_files(self.root):
            if file == self.root:
                raise NotADirectoryError(
                    f"{shown}: expected the folder that holds train and valid, got a file. "
                    "Pass the folder; an archive must be unpacked first."
                )
            folder, _, name = file.rpartition("/")
            self.files[folder].add(name)
            while len(folder) > len(self.root):
                parent, _, name = folder.rpartition("/")
                if name in self.folders[parent]:
                    break
                self.folders[parent].add(name)
                folder = parent
        if not self.files:
            raise FileNotFoundError(
                f"{shown}: expected the folder that holds train and valid, got no file below this "
                "address. Check it."
            )
