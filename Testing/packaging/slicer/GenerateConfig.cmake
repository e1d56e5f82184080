# An emulation of Slicer's SlicerExtensionGenerateConfig.cmake, which lets other extensions build upon this one.

file(WRITE "${CMAKE_BINARY_DIR}/${EXTENSION_NAME}Config.cmake" "set(${EXTENSION_NAME}_SOURCE_DIR \"${PROJECT_SOURCE_DIR}\")\n")
