# An emulation of what find_package(Slicer) gives an extension, for tests where there is no build of Slicer.
# It covers what an extension of scripted modules asks for: names of folders, the macros that copy, install and register
# tests (from this folder, or from sources of Slicer and CTK where SLICER_SOURCE_DIR and CTK_SOURCE_DIR name them), and
# checks of the extension's metadata.

set(Slicer_USE_FILE "${CMAKE_CURRENT_LIST_DIR}/UseSlicer.cmake")
set(Slicer_EXTENSION_GENERATE_CONFIG "${CMAKE_CURRENT_LIST_DIR}/GenerateConfig.cmake")
set(Slicer_EXTENSION_CPACK "${CMAKE_CURRENT_LIST_DIR}/CPack.cmake")

set(Slicer_USE_PYTHONQT ON)
set(Slicer_QTSCRIPTEDMODULES_LIB_DIR "lib/Slicer-5.12/qt-scripted-modules")
set(Slicer_QTLOADABLEMODULES_LIB_DIR "lib/Slicer-5.12/qt-loadable-modules")
set(Slicer_CLIMODULES_LIB_DIR "lib/Slicer-5.12/cli-modules")
set(Slicer_SHARE_DIR "share/Slicer-5.12")
set(Slicer_INSTALL_QTSCRIPTEDMODULES_LIB_DIR "${Slicer_QTSCRIPTEDMODULES_LIB_DIR}")
set(Slicer_LAUNCHER_EXECUTABLE "${CMAKE_COMMAND}")  # a program that exists: tests are only listed
set(Slicer_ExternalData_DATA_MANAGEMENT_TARGET "SemiCardiacSegTestData")

set(Slicer_LICENSE_FILE "${CMAKE_CURRENT_LIST_FILE}")  # Slicer's own, which an extension should not show as its own
set(Slicer_README_FILE "${CMAKE_CURRENT_LIST_FILE}")
